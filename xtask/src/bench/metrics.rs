//! Reading what the server shows to Prometheus.

/// The sum of a metric over all its lines that have these labels, each as `name="value"`.
pub(super) fn sum(text: &str, metric: &str, labels: &[&str]) -> f64 {
    let ours = |line: &&str| {
        let rest = line.strip_prefix(metric).unwrap_or_default();
        rest.starts_with([' ', '{']) && labels.iter().all(|label| rest.contains(label))
    };
    text.lines().filter(ours).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_summed_by_name_and_labels() {
        let text = "# HELP swaps Swaps\nswaps{model=\"a\",outcome=\"swapped\"} 3\nswaps{model=\"a\",outcome=\"refused\"} 1\n\
                    swaps{model=\"b\",outcome=\"swapped\"} 10\nswaps_total 7\nbytes 1.5e3\n";
        assert_eq!(sum(text, "swaps", &["model=\"a\""]), 4.0);
        assert_eq!(sum(text, "swaps", &["model=\"a\"", "outcome=\"swapped\""]), 3.0);
        assert_eq!(sum(text, "bytes", &[]), 1500.0);
        assert_eq!(sum(text, "none", &[]), 0.0);
    }
}
