//! Work in parts of bounded size.

use std::ops::Range;

/// Splits a list, whose entries take so much work each, into parts of at most `most`, or of one entry that takes more. An empty
/// list is one part.
pub(crate) fn parts(works: impl Iterator<Item = u64>, most: u64) -> Vec<Range<usize>> {
    let (mut found, mut part, mut sum) = (Vec::new(), 0..0, 0_u64);
    for work in works {
        if !part.is_empty() && sum.saturating_add(work) > most {
            found.push(part.clone());
            (part, sum) = (part.end..part.end, 0);
        }
        part.end += 1;
        sum = sum.saturating_add(work);
    }
    found.push(part);
    found
}

#[cfg(test)]
mod tests {
    use super::parts;
    use std::ops::Range;

    #[test]
    fn parts_are_bounded_in_order_and_hold_every_entry() {
        let of = |works: &[u64]| parts(works.iter().copied(), 10);
        assert!(matches!(&of(&[])[..], [part] if part.is_empty()));
        assert_eq!(of(&[4, 6, 1]), [0..2, 2..3]);
        assert_eq!(of(&[11, 1, 9, 1]), [0..1, 1..3, 3..4]);
        assert_eq!(of(&[1, u64::MAX, 1]), [0..1, 1..2, 2..3]);
        let works: Vec<u64> = (0..1000).map(|index| index * 7919 % 13).collect();
        let found = of(&works);
        assert!(found.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!((found[0].start, found.last().unwrap().end), (0, 1000));
        let too_much = |part: &Range<usize>| part.len() > 1 && works[part.clone()].iter().sum::<u64>() > 10;
        assert!(!found.iter().any(too_much));
    }
}
