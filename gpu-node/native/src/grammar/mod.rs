//! Which tokens a grammar lets come next, as bits over a model's vocabulary.
//!
//! Grammars are JSON schemas or Lark, compiled and parsed by `llguidance` (an Earley parser over a lexer
//! of regular-expression derivatives). A [`Vocabulary`] is made once a model, a [`Grammar`] once a schema,
//! a [`Matcher`] once an answer.

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher as Parser, ParserFactory};
use std::fmt;
use std::sync::Arc;
use std::thread;

/// Schemas nest, and so does the compiler: it gets a stack that no schema of the size we take overflows.
const COMPILE_STACK_BYTES: usize = 256 << 20;

/// How much one grammar may cost. A mask that takes more is an error of its answer, not a stall of others.
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

/// What a grammar is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// A JSON schema, as JSON.
    JsonSchema,
    /// Lark, as `llguidance` extends it.
    Lark,
}

impl Language {
    /// The language of that name.
    pub fn named(name: &str) -> Result<Language, GrammarError> {
        match name {
            "json_schema" => Ok(Language::JsonSchema),
            "lark" => Ok(Language::Lark),
            _ => Err(GrammarError(format!("a grammar is 'json_schema' or 'lark', not '{name}'"))),
        }
    }
}

/// Why a vocabulary, a grammar or a token is refused.
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
    /// A vocabulary of `tokens`, by id; a token without bytes is in no answer. A grammar lets one of
    /// `end_tokens` come where an answer may end, and special tokens nowhere else.
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
            ParserFactory::new(&env, InferenceCapabilities::default(), &slices).map_err(refused)?;
        *factory.limits_mut() = LIMITS;
        factory.quiet();
        Ok(Vocabulary { factory })
    }

    /// Compiles a grammar, on a thread of its own that the caller waits for.
    pub fn compile(&self, language: Language, source: &str) -> Result<Grammar, GrammarError> {
        let compile = || {
            let grammar = match language {
                Language::JsonSchema => TopLevelGrammar::from_tagged_str("json_schema", source)?,
                Language::Lark => TopLevelGrammar::from_tagged_str("lark", source)?,
            };
            self.factory.create_parser(grammar)
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().stack_size(COMPILE_STACK_BYTES);
            let running = thread
                .spawn_scoped(scope, compile)
                .map_err(|error| GrammarError(format!("no thread to compile on: {error}")))?;
            let compiled = running.join().map_err(|_| GrammarError("the compiler failed".to_owned()))?;
            let parser = Parser::new(Ok(compiled.map_err(refused)?));
            Ok(Grammar { parser })
        })
    }
}

/// A compiled grammar; answers share it.
pub struct Grammar {
    parser: Parser,
}

impl Grammar {
    /// A matcher at the beginning of an answer.
    pub fn matcher(&self) -> Matcher {
        Matcher { parser: self.parser.deep_clone() }
    }
}

/// How far one answer has come in its grammar.
pub struct Matcher {
    parser: Parser,
}

impl Matcher {
    /// Takes the tokens that were sampled since the last call, and tells which may come next: token `i` is bit
    /// `i % 32` of word `i / 32`. Where the answer is complete these are the end tokens alone.
    ///
    /// After an error the matcher is of no more use.
    pub fn advance(&mut self, tokens: &[u32]) -> Result<Vec<u32>, GrammarError> {
        self.parser.consume_tokens(tokens).map_err(refused)?;
        let mask = self.parser.compute_mask_or_eos().map_err(refused)?;
        let words = mask.len().div_ceil(32);
        Ok(mask.as_slice()[..words].to_vec())
    }
}

/// The first line is what went wrong, the others are the parser's state; of a regular expression the line that
/// begins with `error:` is.
fn refused(error: impl fmt::Display) -> GrammarError {
    let text = error.to_string();
    let said = text.lines().find_map(|line| line.strip_prefix("error: "));
    GrammarError(match said {
        Some(said) if text.starts_with("regex parse error") => format!("in a 'pattern': {said}"),
        _ => text.lines().next().unwrap_or("no reason").to_owned(),
    })
}
