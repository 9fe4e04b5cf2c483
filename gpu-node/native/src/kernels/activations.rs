//! Encoding of a multiplication's inputs into the layout that the kernels read.

use super::aligned_buffer::AlignedBuffer;
use super::disjoint::Disjoint;
use super::{Bf16Words, CHUNK_TOKENS, MAX_INT8_INPUT, Panel};
use crate::cpu::Implementation;
use crate::pool::{Panicked, Pool};
use crate::storage::{Format, Precision};
use half::bf16;
use std::ops::Range;

/// Columns of the longest group: the unit of encoding.
const GROUP: usize = crate::storage::MAX_GROUP;
/// Maximum number of values in a buffer. More than a gigabyte of activations is a mistake of the caller, and
/// an allocation that fails would end the process.
pub const MAX_ACTIVATIONS: usize = 1 << 28;

/// Returns whether `rows` times `cols` values, with columns padded to whole groups, are at most
/// [`MAX_ACTIVATIONS`].
pub(crate) fn fits_activations(rows: usize, cols: usize) -> bool {
    let padded = cols.checked_next_multiple_of(GROUP);
    padded.and_then(|cols| cols.checked_mul(rows)).is_some_and(|numbers| numbers <= MAX_ACTIVATIONS)
}

/// How activations are encoded. The precision of the weights decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// bfloat16, rounded to nearest.
    Bf16,
    /// Signed 16 bits, with one f32 scale for each token and group of columns. With 8 bits, the activations
    /// would cause most of int8's loss of quality. Codes of int8 have 8 bits themselves, so that without 8-bit
    /// dot products instructions for 16 bits multiply them as fast.
    Int16 {
        /// Columns of a group: 64 or 32.
        group: usize,
    },
    /// Signed 8 bits, scaled likewise. int4 weights lose so much themselves that this adds little, and an instruction
    /// makes twice as many products.
    Int8 {
        /// Columns of a group: 64 or 32.
        group: usize,
    },
}

impl Encoding {
    /// The encoding of activations that weights of `format` are multiplied by.
    pub fn of(format: Format) -> Encoding {
        match format.precision() {
            Precision::Bf16 => Encoding::Bf16,
            Precision::Int8 => Encoding::Int16 { group: format.group() },
            Precision::Int4 => Encoding::Int8 { group: format.group() },
        }
    }

    /// Columns of a group of the layout.
    pub fn group(self) -> usize {
        match self {
            Encoding::Bf16 => 64,
            Encoding::Int16 { group } | Encoding::Int8 { group } => group,
        }
    }

    /// 32-bit words of a token's group.
    fn words(self, bf16: Bf16Words) -> usize {
        match (self, bf16) {
            (Encoding::Bf16, Bf16Words::Floats) => self.group(),
            (Encoding::Bf16, _) | (Encoding::Int16 { .. }, _) => self.group() / 2,
            (Encoding::Int8 { .. }, _) => self.group() / 4,
        }
    }
}

/// A buffer of encoded activations, `[tokens, cols]`. Encoding reuses it without allocating.
///
/// Tokens are divided into chunks, of as many as share one pass over the weights. In a chunk of `t` tokens the words of one step of
/// columns lie side by side, `[steps, t]`, and so do scales and sums, `[groups, t]`. Words of bf16 may also lie `[groups, t,
/// steps of a group]`. A step of 16-bit
/// integers is four columns in two words, the even columns before the odd ones; one of 8-bit integers is four
/// columns in one word. [`Bf16Words`] says how bf16 is laid out. A group in planes is the upper bytes of its
/// columns, `[t, columns]`, followed by the lower bytes; one of 8-bit integers has one plane.
pub struct Activations {
    max_tokens: usize,
    max_cols: usize,
    encoding: Encoding,
    bf16_words: Bf16Words,
    chunk_tokens: usize,
    in_planes: bool,
    tokens: usize,
    cols: usize,
    words: AlignedBuffer<u32>,
    scales: Vec<f32>,
    sums: Vec<i32>,
    input_sums: Vec<f32>,
}

/// One chunk's inputs, and its part of the buffer.
pub(crate) struct ChunkMut<'a> {
    /// `[tokens, cols]` f32 row-major.
    pub(crate) inputs: &'a [f32],
    pub(crate) cols: usize,
    pub(crate) encoding: Encoding,
    pub(crate) bf16_words: Bf16Words,
    /// Whether integers are written as planes of bytes.
    pub(crate) in_planes: bool,
    pub(crate) words: &'a mut [u32],
    pub(crate) scales: &'a mut [f32],
    /// The sums of the codes.
    pub(crate) sums: &'a mut [i32],
    /// The sums times the scales.
    pub(crate) input_sums: &'a mut [f32],
}

impl Activations {
    /// Creates a buffer for `max_tokens` tokens of `max_cols` columns in any encoding, at most
    /// [`MAX_ACTIVATIONS`] values.
    pub fn with_capacity(max_tokens: usize, max_cols: usize) -> Activations {
        let padded = max_cols.next_multiple_of(64);
        Activations {
            max_tokens,
            max_cols,
            encoding: Encoding::Bf16,
            bf16_words: Bf16Words::Floats,
            chunk_tokens: CHUNK_TOKENS,
            in_planes: false,
            tokens: 0,
            cols: 0,
            words: AlignedBuffer::zeros(max_tokens * padded),
            scales: vec![0.0; max_tokens * padded / 32],
            sums: vec![0; max_tokens * padded / 32],
            input_sums: vec![0.0; max_tokens * padded / 32],
        }
    }

    /// Maximum number of tokens.
    pub fn capacity(&self) -> usize {
        self.max_tokens
    }

    /// The encoding of the present activations.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The number of tokens encoded at present.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The number of columns encoded at present.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Encodes `inputs`, `[tokens, cols]` f32 row-major. A NaN among the inputs makes every output of its
    /// token NaN.
    ///
    /// # Panics
    ///
    /// Panics if the buffer is too small, or `inputs` is not a whole number of tokens.
    pub fn encode(
        &mut self,
        implementation: &Implementation,
        pool: &mut Pool,
        encoding: Encoding,
        cols: usize,
        inputs: &[f32],
    ) -> Result<(), Panicked> {
        let tokens = inputs.len() / cols;
        assert_eq!(tokens * cols, inputs.len(), "inputs end within a token");
        assert!(tokens <= self.max_tokens && cols <= self.max_cols, "no room for the inputs");
        (self.encoding, self.tokens, self.cols) = (encoding, tokens, cols);
        (self.bf16_words, self.chunk_tokens) =
            (implementation.multiply.bf16_words, implementation.chunk_tokens(encoding));
        let (bf16_words, chunk_tokens) = (self.bf16_words, self.chunk_tokens);
        let in_planes = implementation.has_planes(encoding, tokens);
        self.in_planes = in_planes;
        let (words, groups) = self.sizes_per_token();
        let chunks = tokens.div_ceil(chunk_tokens);
        let all_words = Disjoint::new(&mut self.words);
        let all_scales = Disjoint::new(&mut self.scales);
        let all_sums = Disjoint::new(&mut self.sums);
        let all_input_sums = Disjoint::new(&mut self.input_sums);
        let encode = |chunk: usize| {
            let tokens = chunk_range(chunk, chunk_tokens, tokens);
            // SAFETY: chunks do not overlap, and one thread encodes each of them once.
            let (words, scales, sums, input_sums) = unsafe {
                (
                    all_words.range(tokens.start * words..tokens.end * words),
                    all_scales.range(tokens.start * groups..tokens.end * groups),
                    all_sums.range(tokens.start * groups..tokens.end * groups),
                    all_input_sums.range(tokens.start * groups..tokens.end * groups),
                )
            };
            implementation.encode(ChunkMut {
                inputs: &inputs[tokens.start * cols..tokens.end * cols],
                cols,
                encoding,
                bf16_words,
                in_planes,
                words,
                scales,
                sums,
                input_sums,
            });
        };
        if chunks == 1 {
            encode(0);
            return Ok(());
        }
        let parts = pool.threads();
        pool.run(&|part| (chunks * part / parts..chunks * (part + 1) / parts).for_each(&encode))
    }

    /// Whether integers are planes of bytes.
    pub(super) fn in_planes(&self) -> bool {
        self.in_planes
    }

    /// The number of chunks.
    pub(super) fn chunks(&self) -> usize {
        self.tokens.div_ceil(self.chunk_tokens)
    }

    /// Returns the tokens of a chunk.
    pub(super) fn chunk_range(&self, chunk: usize) -> Range<usize> {
        chunk_range(chunk, self.chunk_tokens, self.tokens)
    }

    /// Returns the panel of a chunk.
    pub(super) fn panel(&self, chunk: usize) -> Panel<'_> {
        let (words, groups) = self.sizes_per_token();
        let tokens = self.chunk_range(chunk);
        Panel {
            tokens: tokens.len(),
            words: &self.words[tokens.start * words..tokens.end * words],
            scales: &self.scales[tokens.start * groups..tokens.end * groups],
            sums: &self.sums[tokens.start * groups..tokens.end * groups],
            input_sums: &self.input_sums[tokens.start * groups..tokens.end * groups],
        }
    }

    /// The number of words and of groups of one token.
    fn sizes_per_token(&self) -> (usize, usize) {
        let groups = self.cols.div_ceil(self.encoding.group());
        (groups * self.encoding.words(self.bf16_words), groups)
    }
}

fn chunk_range(chunk: usize, chunk_tokens: usize, tokens: usize) -> Range<usize> {
    let start = chunk * chunk_tokens;
    start..(start + chunk_tokens).min(tokens)
}

/// Encodes one chunk. Inlined into a function of each instruction set, so that the compiler vectorises it for
/// that set. The operations and their order, and so the bits, are the same in all of them.
#[inline(always)]
pub(crate) fn encode_chunk(chunk: ChunkMut<'_>) {
    let tokens = chunk.inputs.len() / chunk.cols;
    match chunk.encoding {
        Encoding::Bf16 => {
            let group_words = chunk.encoding.words(chunk.bf16_words) * tokens;
            for (token, inputs) in chunk.inputs.chunks_exact(chunk.cols).enumerate() {
                let words = chunk.words.chunks_exact_mut(group_words);
                for (words, inputs) in words.zip(inputs.chunks(GROUP)) {
                    encode_bf16(inputs, token, tokens, chunk.bf16_words, words);
                }
            }
        }
        Encoding::Int16 { group } => encode_integers::<32_767>(chunk, tokens, group, write_int16),
        Encoding::Int8 { group } => encode_integers::<MAX_INT8_INPUT>(chunk, tokens, group, write_int8),
    }
}

/// Writes one token's group.
#[inline(always)]
fn encode_bf16(inputs: &[f32], token: usize, tokens: usize, form: Bf16Words, words: &mut [u32]) {
    let mut codes = [0u16; GROUP];
    for (code, value) in codes.iter_mut().zip(&padded(inputs)) {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        *code = if value.is_nan() { bf16::NAN.to_bits() } else { rounded as u16 };
    }
    let steps = words.chunks_exact_mut(tokens);
    match form {
        Bf16Words::Pairs => {
            for (step, codes) in steps.zip(codes.chunks_exact(2)) {
                step[token] = u32::from(codes[0]) | u32::from(codes[1]) << 16;
            }
        }
        Bf16Words::Rows => {
            let (pairs, _) = codes.as_chunks::<2>();
            for (word, codes) in words[token * pairs.len()..].iter_mut().zip(pairs) {
                *word = u32::from(codes[0]) | u32::from(codes[1]) << 16;
            }
        }
        Bf16Words::Floats => {
            for (step, code) in steps.zip(codes) {
                step[token] = u32::from(code) << 16;
            }
        }
    }
}

/// Where the codes of a token's group are written.
struct Place<'a> {
    /// The words of the group of all tokens.
    words: &'a mut [u32],
    token: usize,
    tokens: usize,
    in_planes: bool,
}

/// Encodes one chunk as integers of at most `LARGEST`; `write` writes the codes of one token's group.
#[inline(always)]
fn encode_integers<const LARGEST: i32>(
    chunk: ChunkMut<'_>,
    tokens: usize,
    group: usize,
    write: impl Fn(&[i16; GROUP], Place<'_>),
) {
    let group_words = chunk.encoding.words(chunk.bf16_words) * tokens;
    for (token, inputs) in chunk.inputs.chunks_exact(chunk.cols).enumerate() {
        let words = chunk.words.chunks_exact_mut(group_words);
        for (index, (inputs, words)) in inputs.chunks(group).zip(words).enumerate() {
            let (codes, scale, sum) = integers_of::<LARGEST>(inputs);
            let place = index * tokens + token;
            (chunk.scales[place], chunk.sums[place]) = (scale, sum);
            chunk.input_sums[place] = scale * sum as f32;
            write(&codes, Place { words, token, tokens, in_planes: chunk.in_planes });
        }
    }
}

/// Returns the codes of one token's group, at most `LARGEST`, their scale and their sum.
#[inline(always)]
fn integers_of<const LARGEST: i32>(inputs: &[f32]) -> ([i16; GROUP], f32, i32) {
    const INFINITY: u32 = f32::INFINITY.to_bits();
    let values = padded(inputs);
    // Magnitudes have the order of their bits, and the compiler vectorises the maximum of integers.
    let largest = values.iter().fold(0, |largest, value| (value.to_bits() & !(1 << 31)).max(largest));
    let scale = f32::from_bits(largest) / LARGEST as f32;
    // Where the scale is so small that its inverse overflows, all codes are 0.
    let inverse = if scale > 1e-37 { 1.0 / scale } else { 0.0 };
    let mut codes = [0i16; GROUP];
    let mut sum = 0i32;
    for (code, value) in codes.iter_mut().zip(&values) {
        // Rounds to nearest, ties to even: the lowest bit of the sum has the value 1.
        const SHIFT: f32 = 12_582_912.0;
        let shifted = (value * inverse + SHIFT).to_bits().cast_signed();
        let rounded = shifted.wrapping_sub(SHIFT.to_bits().cast_signed());
        // Codes of inputs that are not finite are not used and may be any numbers.
        sum = rounded.wrapping_add(sum);
        *code = rounded as i16;
    }
    let (scale, sum) = if largest >= INFINITY { (f32::NAN, 0) } else { (scale, sum) };
    (codes, scale, sum)
}

#[inline(always)]
fn write_int16(codes: &[i16; GROUP], Place { words, token, tokens, in_planes }: Place<'_>) {
    let (codes, _) = codes.as_chunks::<4>();
    if in_planes {
        let steps = words.len() / (2 * tokens);
        let (upper, lower) = words.split_at_mut(tokens * steps);
        let places = upper[token * steps..].iter_mut().zip(&mut lower[token * steps..]).take(steps);
        for ((upper, lower), codes) in places.zip(codes) {
            *upper = u32::from_le_bytes(codes.map(|code| (code >> 8) as u8));
            *lower = u32::from_le_bytes(codes.map(|code| code as u8));
        }
        return;
    }
    for (step, codes) in words.chunks_exact_mut(2 * tokens).zip(codes) {
        let [first, second, third, fourth] = codes.map(|code| u32::from(code.cast_unsigned()));
        step[2 * token] = first | third << 16;
        step[2 * token + 1] = second | fourth << 16;
    }
}

#[inline(always)]
fn write_int8(codes: &[i16; GROUP], Place { words, token, tokens, in_planes }: Place<'_>) {
    let (codes, _) = codes.as_chunks::<4>();
    let word = |codes: &[i16; 4]| u32::from_le_bytes(codes.map(|code| code as u8));
    if in_planes {
        let steps = words.len() / tokens;
        for (out, codes) in words[token * steps..][..steps].iter_mut().zip(codes) {
            *out = word(codes);
        }
        return;
    }
    for (step, codes) in words.chunks_exact_mut(tokens).zip(codes) {
        step[token] = word(codes);
    }
}

#[inline(always)]
fn padded(inputs: &[f32]) -> [f32; GROUP] {
    let mut values = [0f32; GROUP];
    values[..inputs.len()].copy_from_slice(inputs);
    values
}
