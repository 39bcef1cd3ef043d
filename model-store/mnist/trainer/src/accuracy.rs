//! How many digits were right, in all and for each digit.

use std::fmt;

#[derive(Debug, Default)]
pub(crate) struct Accuracy {
    seen: [usize; 10],
    right: [usize; 10],
}

// === impl Accuracy ===

impl Accuracy {
    pub(crate) fn count(&mut self, digit: u8, answer: u8) {
        self.seen[usize::from(digit)] += 1;
        self.right[usize::from(digit)] += usize::from(digit == answer);
    }
}

impl fmt::Display for Accuracy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (right, seen): (usize, usize) = (self.right.iter().sum(), self.seen.iter().sum());
        write!(f, "{right} of {seen} right, {}", percent(right, seen))?;
        for (digit, (&right, &seen)) in self.right.iter().zip(&self.seen).enumerate() {
            write!(f, "\n  {digit}: {right} of {seen}, {}", percent(right, seen))?;
        }
        Ok(())
    }
}

fn percent(right: usize, seen: usize) -> String {
    if seen == 0 { "none seen".to_owned() } else { format!("{:.2} %", right as f64 * 100.0 / seen as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_was_seen() {
        let mut accuracy = Accuracy::default();
        for (digit, answer) in [(1, 1), (1, 7), (3, 3), (3, 3)] {
            accuracy.count(digit, answer);
        }
        let text = accuracy.to_string();
        assert!(text.starts_with("3 of 4 right, 75.00 %"), "{text}");
        assert!(text.contains("\n  1: 1 of 2, 50.00 %") && text.contains("\n  0: 0 of 0, none seen"), "{text}");
    }
}
