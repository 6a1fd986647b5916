//! Zipf's law: the key of rank `k` is asked for in proportion to `1 / k^s`.

/// Draws ranks by rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone
/// discrete distributions", 1996): exact for any exponent, and no table as large as the number of keys.
#[derive(Clone, Copy, Debug)]
pub struct Zipf {
    exponent: f64,
    /// `H` at both ends of the range, and the width below which a draw is accepted at once.
    h_first: f64,
    h_last: f64,
    squeeze: f64,
    last: f64,
}

impl Zipf {
    /// Ranks from 1 to `count`, with this exponent; 0 is uniform, 0.99 what YCSB calls Zipfian.
    pub fn new(count: u32, exponent: f64) -> Self {
        let mut zipf = Self {
            exponent,
            h_first: 0.0,
            h_last: 0.0,
            squeeze: 0.0,
            last: f64::from(count.max(1)),
        };
        zipf.h_first = zipf.integral(1.5) - 1.0;
        zipf.h_last = zipf.integral(zipf.last + 0.5);
        zipf.squeeze = 2.0 - zipf.integral_inverse(zipf.integral(2.5) - zipf.weight(2.0));
        zipf
    }

    /// The next rank, from 1 on. `uniform` gives numbers from 0 up to but not 1.
    pub fn draw(&self, mut uniform: impl FnMut() -> f64) -> u32 {
        loop {
            let height = self.h_last + uniform() * (self.h_first - self.h_last);
            let at = self.integral_inverse(height);
            let rank = at.round().clamp(1.0, self.last);
            let near = rank - at <= self.squeeze;
            if near || height >= self.integral(rank + 0.5) - self.weight(rank) {
                #[allow(clippy::cast_possible_truncation, reason = "between 1 and a u32")]
                return rank as u32;
            }
        }
    }

    fn weight(&self, at: f64) -> f64 {
        (-self.exponent * at.ln()).exp()
    }

    /// An antiderivative of the weight: `(at^(1-s) - 1) / (1 - s)`, or `ln at` where `s` is 1.
    fn integral(&self, at: f64) -> f64 {
        let (log, power) = (at.ln(), 1.0 - self.exponent);
        if (power * log).abs() > NEAR_ZERO {
            ((power * log).exp_m1()) / power
        } else {
            log
        }
    }

    fn integral_inverse(&self, height: f64) -> f64 {
        let power = 1.0 - self.exponent;
        let inner = (height * power).max(-1.0);
        if inner.abs() > NEAR_ZERO {
            (inner.ln_1p() / power).exp()
        } else {
            height.exp()
        }
    }
}

/// Below this the quotients above lose more digits than the limit they tend to is wrong by.
const NEAR_ZERO: f64 = 1e-8;

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each rank was drawn, of `draws`.
    fn counts(zipf: &Zipf, ranks: usize, draws: u32) -> Vec<f64> {
        let mut state = 7_u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut counts = vec![0.0; ranks + 1];
        for _ in 0..draws {
            counts[zipf.draw(&mut uniform) as usize] += 1.0;
        }
        counts
    }

    #[test]
    fn ranks_come_as_often_as_the_law_says() {
        const DRAWS: u32 = 200_000;
        for exponent in [0.0, 0.5, 0.99, 1.0, 1.3] {
            let counts = counts(&Zipf::new(50, exponent), 50, DRAWS);
            let weight = |rank: usize| (rank as f64).powf(-exponent);
            let all: f64 = (1..=50).map(weight).sum();
            for rank in [1, 2, 3, 10, 50] {
                let wanted = f64::from(DRAWS) * weight(rank) / all;
                let off = (counts[rank] - wanted).abs() / wanted.sqrt();
                assert!(
                    off < 5.0,
                    "exponent {exponent}, rank {rank}: {} not {wanted}",
                    counts[rank]
                );
            }
        }
    }

    #[test]
    fn one_key_is_always_the_first() {
        assert_eq!(Zipf::new(1, 0.99).draw(|| 0.7), 1);
    }
}
