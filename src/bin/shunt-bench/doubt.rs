//! What a median may be off by.
//!
//! The notch of a box plot (Tukey and others, *Variations of Box Plots*, 1978): 1.57 times what lies between the
//! quartiles, over the root of how many there were. Medians that differ by less are as well the same. It knows of
//! chance only: what is wrong in all rounds alike (where code came to lie) it cannot see.

/// Of `count` figures whose quartiles these are.
pub(crate) fn off_by([lower, upper]: [f64; 2], count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 rounds")]
    let count = count.max(1) as f64;
    1.57 * (upper - lower) / count.sqrt()
}

/// Of the difference of two medians.
pub(crate) fn of_difference(one: f64, other: f64) -> f64 {
    one.hypot(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_rounds_leave_less_doubt_and_wider_ones_more() {
        let doubts = [off_by([0.0, 10.0], 100), off_by([0.0, 10.0], 400), off_by([0.0, 20.0], 100)];
        assert!((doubts[0] - 1.57).abs() < 1e-9);
        assert!((doubts[1] * 2.0 - doubts[0]).abs() < 1e-9);
        assert!((doubts[2] - doubts[0] * 2.0).abs() < 1e-9);
        assert!((of_difference(3.0, 4.0) - 5.0).abs() < 1e-9);
    }
}
