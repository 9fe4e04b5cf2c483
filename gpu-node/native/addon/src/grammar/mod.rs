//! Grammars that constrain an output: which tokens may come next, as bits over a model's vocabulary.
//!
//! Grammars are JSON schemas or Lark, compiled and parsed by `llguidance` (an Earley parser over a lexer of
//! regular-expression derivatives). A [`Vocabulary`] is made once per model, a [`Grammar`] once per schema, a [`Matcher`]
//! once per output. `errors` classifies the compiler's errors.

mod errors;
mod look_ahead;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher as Parser, ParserFactory};
use std::fmt;
use std::sync::Arc;
use std::thread;

use look_ahead::LookAhead;

pub use errors::{CompileError, Problem};

/// The compiler recurses into nested schemas. No schema of a size that the node accepts overflows this stack.
const COMPILE_STACK_BYTES: usize = 256 << 20;

/// The largest cost of one grammar. A mask that costs more fails its own output instead of delaying others.
const LIMITS: ParserLimits = ParserLimits {
    max_items_in_row: 2_000,
    // 50 units take about a microsecond: 20 ms.
    initial_lexer_fuel: 1_000_000,
    // 14 a microsecond: 7 ms.
    step_lexer_fuel: 100_000,
    // 20 a microsecond: 2.5 ms.
    step_max_items: 50_000,
    // 1 to 2 KB each.
    max_lexer_states: 30_000,
    max_grammar_size: 200_000,
    precompute_large_lexemes: true,
    verbose_errors: false,
};

/// The most bytes that [`Matcher::forced`] returns: more than the drafts of a step have.
const MAX_FORCED_BYTES: usize = 512;

/// The language of a grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// A JSON schema, as JSON.
    JsonSchema,
    /// Lark with the extensions of `llguidance`.
    Lark,
}

impl Language {
    /// The language with this name.
    pub fn named(name: &str) -> Result<Language, GrammarError> {
        match name {
            "json_schema" => Ok(Language::JsonSchema),
            "lark" => Ok(Language::Lark),
            _ => Err(GrammarError(format!("a grammar is 'json_schema' or 'lark', not '{name}'"))),
        }
    }
}

/// Why a vocabulary or a token is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrammarError(pub String);

impl fmt::Display for GrammarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for GrammarError {}

/// A model's tokens, as a tree of their bytes.
pub struct Vocabulary {
    factory: ParserFactory,
}

impl Vocabulary {
    /// A vocabulary of `tokens`, by id. A token without bytes is never allowed. A grammar allows `end_tokens` where an
    /// output may end, and no other special tokens.
    pub fn new(
        mut tokens: Vec<Vec<u8>>,
        special: &[bool],
        end_tokens: &[u32],
    ) -> Result<Vocabulary, GrammarError> {
        let count = tokens.len();
        if special.len() != count {
            return Err(GrammarError(format!("{count} tokens have {} flags", special.len())));
        }
        let Some(&end) = end_tokens.first() else {
            return Err(GrammarError("a vocabulary needs an end token".to_owned()));
        };
        if let Some(id) = end_tokens.iter().find(|&&id| id as usize >= count) {
            return Err(GrammarError(format!("end token {id} is not one of the {count} tokens")));
        }
        for (bytes, _) in tokens.iter_mut().zip(special).filter(|(_, special)| **special) {
            bytes.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
        }
        let info = TokRxInfo::new(count as u32, end);
        let trie = TokTrie::from(&info, &tokens).with_eos_tokens(end_tokens);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = SlicedBiasComputer::json_slices();
        let mut factory =
            ParserFactory::new(&env, InferenceCapabilities::default(), &slices).map_err(failed)?;
        *factory.limits_mut() = LIMITS;
        factory.quiet();
        Ok(Vocabulary { factory })
    }

    /// Compiles a grammar on a thread with a large stack, and waits for it.
    pub fn compile(&self, language: Language, source: &str) -> Result<Grammar, CompileError> {
        let compile = || {
            let grammar = match language {
                Language::JsonSchema => TopLevelGrammar::from_tagged_str("json_schema", source)?,
                Language::Lark => TopLevelGrammar::from_tagged_str("lark", source)?,
            };
            self.factory.create_parser(grammar)
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().stack_size(COMPILE_STACK_BYTES);
            let running = thread.spawn_scoped(scope, compile).map_err(CompileError::Thread)?;
            let compiled = running.join().map_err(|_| CompileError::Panicked)?;
            let parser = compiled.map_err(|error| CompileError::of_grammar(&error))?;
            Ok(Grammar { parser: Parser::new(Ok(parser)), look_ahead: Arc::default() })
        })
    }
}

/// A compiled grammar, shared by all outputs that follow it.
pub struct Grammar {
    parser: Parser,
    look_ahead: Arc<LookAhead>,
}

impl Grammar {
    /// A matcher at the start of an output.
    pub fn matcher(&self) -> Matcher {
        Matcher { parser: self.parser.deep_clone(), look_ahead: Arc::clone(&self.look_ahead) }
    }
}

/// The state of one output in its grammar.
pub struct Matcher {
    parser: Parser,
    look_ahead: Arc<LookAhead>,
}

impl Matcher {
    /// Takes the tokens that were sampled since the last call and returns which may come next: token `i` is bit `i % 32` of
    /// word `i / 32`. If the output is complete, only the end tokens may. The masks after each of `drafts`, which it does not
    /// take, follow, up to the first draft that may not come, or that is too costly to tell.
    ///
    /// A matcher cannot be used after an error.
    pub fn advance(&mut self, tokens: &[u32], drafts: &[u32]) -> Result<Vec<u32>, GrammarError> {
        self.parser.consume_tokens(tokens).map_err(failed)?;
        let mut masks = Vec::new();
        add_mask(&mut self.parser, &mut masks)?;
        if !drafts.is_empty() && !self.parser.is_stopped() {
            self.look_ahead.run(&self.parser, |mut parser| {
                for &draft in drafts {
                    let is_taken = parser.try_consume_tokens(&[draft]).is_ok_and(|taken| taken == 1);
                    if !is_taken || add_mask(&mut parser, &mut masks).is_err() || parser.is_stopped() {
                        break;
                    }
                }
            });
        }
        Ok(masks)
    }

    /// Takes the tokens that were sampled since the last call and returns the bytes that must come next, whatever is sampled,
    /// at most [`MAX_FORCED_BYTES`]. There are none where there is a choice. `None` where looking ahead is too costly now:
    /// then [`advance`](Matcher::advance) returns no masks after drafts either.
    ///
    /// A matcher cannot be used after an error.
    pub fn forced(&mut self, tokens: &[u32]) -> Result<Option<Vec<u8>>, GrammarError> {
        self.parser.consume_tokens(tokens).map_err(failed)?;
        if self.parser.is_stopped() {
            return Ok(Some(Vec::new()));
        }
        let look = |mut parser: Parser| {
            let mut bytes = parser.compute_ff_bytes();
            bytes.truncate(MAX_FORCED_BYTES);
            (!parser.is_error()).then_some(bytes)
        };
        Ok(self.look_ahead.run(&self.parser, look).flatten())
    }
}

/// Adds the mask of the next token.
fn add_mask(parser: &mut Parser, masks: &mut Vec<u32>) -> Result<(), GrammarError> {
    let mask = parser.compute_mask_or_eos().map_err(failed)?;
    masks.extend_from_slice(&mask.as_slice()[..mask.len().div_ceil(32)]);
    Ok(())
}

fn failed(error: impl fmt::Display) -> GrammarError {
    GrammarError(errors::reason_of(&error))
}
