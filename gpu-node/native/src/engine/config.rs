use std::fmt;

/// Shape and constants of a LLaMA.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Decoder blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; they divide the query heads.
    pub kv_heads: usize,
    /// Width of a head, even.
    pub head_dim: usize,
    /// Width of the gated layer.
    pub intermediate: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// The largest number of positions of a sequence.
    pub context: usize,
    /// Added to the mean square in a norm.
    pub eps: f32,
    /// Radians per position of each of the `head_dim / 2` rotary pairs, scaling included.
    pub rope: Vec<f64>,
}

/// The error of a configuration whose numbers are out of range or do not fit each other.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl ModelConfig {
    /// Checks that the numbers are in range and fit each other.
    pub fn check(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("hidden", self.hidden),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kvHeads", self.kv_heads),
            ("headDim", self.head_dim),
            ("intermediate", self.intermediate),
            ("vocab", self.vocab),
            ("context", self.context),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| !(1..1 << 24).contains(size)) {
            return Err(ConfigError(format!("{name} is {size}; from 1 to {} is expected", (1 << 24) - 1)));
        }
        let width = self.query_width();
        if width >= 1 << 24 {
            return Err(ConfigError(format!(
                "all heads are {width} wide; up to {} is expected",
                (1 << 24) - 1
            )));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let (heads, kv_heads) = (self.heads, self.kv_heads);
            return Err(ConfigError(format!("{kv_heads} key/value heads do not divide {heads} heads")));
        }
        if !self.head_dim.is_multiple_of(2) || self.rope.len() != self.head_dim / 2 {
            let (head_dim, found) = (self.head_dim, self.rope.len());
            return Err(ConfigError(format!(
                "a head of {head_dim} needs an even width and half as many rotary frequencies, not {found}"
            )));
        }
        if !(self.eps > 0.0 && self.eps < 1.0) || self.rope.iter().any(|frequency| !frequency.is_finite()) {
            return Err(ConfigError("eps or a rotary frequency is out of range".to_owned()));
        }
        Ok(())
    }

    /// Query heads that share a key/value head.
    pub(crate) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Width of all query heads.
    pub(crate) fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads.
    pub(crate) fn key_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// `[rows, cols]` of the linears of a block, in the order of [`super::LINEARS`].
    pub fn linear_shapes(&self) -> [(usize, usize); 7] {
        let (hidden, query, key) = (self.hidden, self.query_width(), self.key_width());
        [
            (query, hidden),
            (key, hidden),
            (key, hidden),
            (hidden, query),
            (self.intermediate, hidden),
            (self.intermediate, hidden),
            (hidden, self.intermediate),
        ]
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the model's configuration cannot be run: {}", self.0)
    }
}

impl std::error::Error for ConfigError {}
