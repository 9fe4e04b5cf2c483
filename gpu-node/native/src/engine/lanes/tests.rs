use super::*;

fn every_f16_widens_to_its_value<L: Lanes>() {
    let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    for halves in all.as_chunks::<LANES>().0 {
        let mut floats = [0.0; LANES];
        L::store(L::load_f16(halves), &mut floats);
        for (half, float) in halves.iter().zip(floats) {
            let expected = half.to_f32();
            assert!(float == expected || float.is_nan() && expected.is_nan(), "{half:?}: {float}");
        }
    }
}

#[test]
fn every_f16_widens_to_its_value_on_every_level() {
    every_f16_widens_to_its_value::<Scalar>();
    #[cfg(target_arch = "aarch64")]
    every_f16_widens_to_its_value::<Neon>();
    #[cfg(target_arch = "x86_64")]
    {
        let names = crate::cpu::Implementation::supported_names();
        if names.contains(&"avx2") {
            every_f16_widens_to_its_value::<Avx2>();
        }
        if names.iter().any(|name| name.starts_with("avx512")) {
            every_f16_widens_to_its_value::<Avx512>();
        }
    }
}
