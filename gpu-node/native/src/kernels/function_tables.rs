//! Tables of functions by the constants that they were compiled for.

use super::{BlockFn, CHUNK_TOKENS};

/// One function for each number of tokens from 1.
pub(super) type ByTokens = [BlockFn; CHUNK_TOKENS];

/// One value for groups of 64 columns, and one for groups of 32.
#[derive(Debug)]
pub(super) struct ByGroup<T> {
    pub(super) of_64: T,
    pub(super) of_32: T,
}

impl<T> ByGroup<T> {
    pub(super) fn of(&self, group: usize) -> &T {
        if group == 64 { &self.of_64 } else { &self.of_32 }
    }
}

/// `[name::<1>, …, name::<8>]`: one function for each number of tokens, with further constants in front.
macro_rules! by_tokens {
    ($($name:ident)::+ $(, $constant:expr)*) => {
        [
            $($name)::+::<$($constant,)* 1>,
            $($name)::+::<$($constant,)* 2>,
            $($name)::+::<$($constant,)* 3>,
            $($name)::+::<$($constant,)* 4>,
            $($name)::+::<$($constant,)* 5>,
            $($name)::+::<$($constant,)* 6>,
            $($name)::+::<$($constant,)* 7>,
            $($name)::+::<$($constant,)* 8>,
        ]
    };
}

/// `by_tokens!` for groups of 64 and of 32.
macro_rules! by_group_and_tokens {
    ($($name:ident)::+) => {
        ByGroup { of_64: by_tokens!($($name)::+, 64), of_32: by_tokens!($($name)::+, 32) }
    };
}

pub(super) use {by_group_and_tokens, by_tokens};
