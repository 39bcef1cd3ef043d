//! The headers of a request: names and values, all in one piece of memory.

/// Names and values, in the order in which they came; a name may come again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    text: String,
    /// For each header, where its name and its value end in the text; they begin where the one before ends.
    ends: Vec<(usize, usize)>,
}

// === impl Headers ===

impl Headers {
    /// With room for so many of so many bytes together: then adding them allocates nothing.
    pub fn with_room(headers: usize, bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), ends: Vec::with_capacity(headers) }
    }

    /// Adds one; those of its name stay.
    pub fn push(&mut self, name: &str, value: &str) {
        self.text.push_str(name);
        let end = self.text.len();
        self.text.push_str(value);
        self.ends.push((end, self.text.len()));
    }

    /// Adds one in place of all of its name.
    pub fn set(&mut self, name: &str, value: &str) {
        if self.iter().any(|(other, _)| other == name) {
            let mut others = Self::with_room(self.ends.len(), self.text.len() + value.len());
            self.iter().filter(|(other, _)| *other != name).for_each(|(name, value)| others.push(name, value));
            *self = others;
        }
        self.push(name, value);
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let mut begin = 0;
        self.ends.iter().map(move |&(middle, end)| {
            let pair = (&self.text[begin..middle], &self.text[middle..end]);
            begin = end;
            pair
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_stand_in_their_order_and_one_that_is_set_is_alone() {
        let mut headers = Headers::default();
        for (name, value) in [("a", "1"), ("b", ""), ("a", "22"), ("", "x"), ("ü", "é")] {
            headers.push(name, value);
        }
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(all, [("a", "1"), ("b", ""), ("a", "22"), ("", "x"), ("ü", "é")]);
        headers.set("a", "3");
        headers.set("c", "4");
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(all, [("b", ""), ("", "x"), ("ü", "é"), ("a", "3"), ("c", "4")]);
    }
}
