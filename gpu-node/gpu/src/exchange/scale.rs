//! Scaling by powers of two, which rounds nothing: f32 has a smaller range than the f64 of the statistics.

/// Exponents that are scaled away at most, so that products of scales are finite too.
const MAX_EXPONENT: i32 = 600;

/// The power of two that scales the largest magnitude to at least ½ and less than 1, if it is between 2⁻⁶⁰⁰ and 2⁶⁰⁰; 1 where
/// all values are 0. `None` if a value is not finite.
pub(super) fn power_below(values: &[f64]) -> Option<f64> {
    if !values.iter().all(|value| value.is_finite()) {
        return None;
    }
    let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    if largest == 0.0 {
        return Some(1.0);
    }
    let exponent = ((largest.to_bits() >> 52) as i32 & 0x7ff) - 1022;
    Some(2f64.powi(-exponent.clamp(-MAX_EXPONENT, MAX_EXPONENT)))
}

/// The bits of the values in f32, multiplied by a scale. `None` if one is not finite then.
pub(super) fn scaled(values: &[f64], scale: f64) -> Option<Vec<u32>> {
    let word = |value: &f64| {
        let value = (value * scale) as f32;
        value.is_finite().then(|| value.to_bits())
    };
    values.iter().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::{power_below, scaled};

    #[test]
    fn scales_bring_the_largest_magnitude_below_one() {
        for largest in [1.0, 0.75, 2.0, 3.9, 1e-30, 1e30, 1e-180, 1e180] {
            let scale = power_below(&[0.1 * largest, -largest]).unwrap();
            let found = largest * scale;
            assert!((0.5..1.0).contains(&found), "{largest} becomes {found}");
        }
        assert_eq!(power_below(&[0.0, -0.0]), Some(1.0));
        assert_eq!(
            [5e-324, f64::MAX].map(|value| power_below(&[value])),
            [600, -600].map(|power| Some(2f64.powi(power)))
        );
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(power_below(&[1.0, value]), None);
        }
        assert_eq!(scaled(&[1.5, -3.0], 0.25), Some(vec![0.375f32.to_bits(), (-0.75f32).to_bits()]));
        assert_eq!(scaled(&[1.0, f64::NAN], 1.0), None);
        assert_eq!(scaled(&[1e200], 1.0), None);
    }
}
