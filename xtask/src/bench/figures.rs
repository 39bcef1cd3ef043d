//! Many measurements in few figures, and how they compare with a bar.

/// The middle of some measurements, and how far they reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) lowest: f64,
    pub(super) highest: f64,
}

/// What a figure has to stay under.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bar {
    pub(super) limit: f64,
    /// As `" ms"`; empty for a ratio.
    pub(super) unit: &'static str,
}

// === impl Spread ===

impl Spread {
    /// `None` where nothing was measured.
    pub(super) fn of(measured: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = measured.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (lowest, highest) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self { median, lowest, highest })
    }

    /// As `12.3 (11.0–14.5)`.
    pub(super) fn shown(self, decimals: usize) -> String {
        format!("{:.decimals$} ({:.decimals$}–{:.decimals$})", self.median, self.lowest, self.highest)
    }

    /// As `12.3, at most 14.5`.
    pub(super) fn with_most(self, decimals: usize) -> String {
        format!("{:.decimals$}, at most {:.decimals$}", self.median, self.highest)
    }
}

// === impl Bar ===

impl Bar {
    /// For a single figure, or one whose median counts.
    pub(super) fn judge(self, figure: f64) -> String {
        if figure <= self.limit { "met".to_owned() } else { format!("missed by {}", self.excess(figure)) }
    }

    /// For a bar that every measurement should stay under.
    pub(super) fn judge_all(self, spread: Spread) -> String {
        if spread.median > self.limit {
            format!("missed by {} in the median", self.excess(spread.median))
        } else if spread.highest > self.limit {
            format!("met in the median; the longest is {} over", self.excess(spread.highest))
        } else {
            "met".to_owned()
        }
    }

    fn excess(self, figure: f64) -> String {
        let over = figure - self.limit;
        format!("{over:.2}{} ({:.0} %)", self.unit, over / self.limit * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0]), Some(Spread { median: 3.0, lowest: 3.0, highest: 3.0 }));
        assert_eq!(Spread::of([9.0, 1.0, 2.0]), Some(Spread { median: 2.0, lowest: 1.0, highest: 9.0 }));
        let four = Spread::of([4.0, 1.0, 2.0, 30.0]).unwrap();
        assert_eq!(four.shown(1), "3.0 (1.0–30.0)");
        assert_eq!(four.with_most(0), "3, at most 30");
    }

    #[test]
    fn a_missed_bar_says_by_how_much() {
        let ratio = Bar { limit: 1.5, unit: "" };
        assert_eq!(ratio.judge(1.5), "met");
        assert_eq!(ratio.judge(1.8), "missed by 0.30 (20 %)");

        let time = Bar { limit: 5.0, unit: " ms" };
        let spread = |median, highest| Spread { median, lowest: 0.0, highest };
        assert_eq!(time.judge_all(spread(1.0, 4.9)), "met");
        assert_eq!(time.judge_all(spread(1.0, 6.0)), "met in the median; the longest is 1.00 ms (20 %) over");
        assert_eq!(time.judge_all(spread(7.5, 9.0)), "missed by 2.50 ms (50 %) in the median");
    }
}
