use crate::grammar::{CompileError, Grammar, GrammarError, Language, Matcher, Problem, Vocabulary};
use copal_native::engine_binding::background::{Background, Job};
use copal_native::engine_binding::errors::{Code, Failure, Result, error, guarded, invalid};
use copal_native::engine_binding::fields::read;
use napi::bindgen_prelude::{AsyncTask, Int32ArraySlice, Uint8Array, Uint32Array, Unknown};
use napi_derive::napi;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

/// The token tree has ids of 24 bits.
const MAX_TOKENS: usize = 1 << 23;

/// A model's tokens, ready to compile grammars for.
#[napi(js_name = "Vocabulary")]
pub struct JsVocabulary(Arc<Vocabulary>);

/// A compiled grammar.
#[napi(js_name = "Grammar")]
pub struct JsGrammar(Arc<Grammar>);

/// The state of one output in its grammar. It may take megabytes that V8 does not count, so the caller frees it when the
/// output ends instead of waiting for garbage collection.
#[napi(js_name = "Matcher")]
pub struct JsMatcher(Arc<Mutex<State>>);

pub enum State {
    /// Not used yet: the matcher is made by the first call of `advance`.
    Start(Arc<Grammar>),
    Started(Box<Matcher>),
    Freed,
}

/// Makes a vocabulary on a thread of libuv.
#[napi]
pub fn create_vocabulary(options: Unknown<'_>) -> Result<AsyncTask<Background<VocabularyJob>>> {
    guarded(|| {
        let [bytes, lengths, special, end_tokens] =
            read(&options, [c"bytes", c"lengths", c"special", c"endTokens"])?;
        let (bytes, lengths) = (bytes.u8_array()?, lengths.u32_array()?);
        let (special, end_tokens) = (special.u8_array()?, end_tokens.u32_array()?);
        if lengths.len() > MAX_TOKENS {
            return Err(invalid(format!("{} tokens are more than {MAX_TOKENS}", lengths.len())));
        }
        let mut rest: &[u8] = &bytes;
        let mut tokens = Vec::with_capacity(lengths.len());
        for &length in &*lengths {
            let (token, behind) = rest
                .split_at_checked(length as usize)
                .ok_or_else(|| invalid(format!("lengths add up to more than {} bytes", bytes.len())))?;
            tokens.push(token.to_vec());
            rest = behind;
        }
        if !rest.is_empty() {
            return Err(invalid(format!("{} bytes belong to no token", rest.len())));
        }
        let special = special.iter().map(|&flag| flag != 0).collect();
        Ok(AsyncTask::new(Background(VocabularyJob { tokens, special, end_tokens: end_tokens.to_vec() })))
    })
}

#[napi]
impl JsVocabulary {
    /// Compiles a grammar on a thread of libuv.
    #[napi]
    pub fn compile(&self, language: String, source: String) -> Result<AsyncTask<Background<CompileJob>>> {
        guarded(|| {
            let language = Language::named(&language).map_err(invalid)?;
            let vocabulary = Arc::clone(&self.0);
            Ok(AsyncTask::new(Background(CompileJob { vocabulary, language, source })))
        })
    }
}

#[napi]
impl JsGrammar {
    /// A matcher at the start of an output.
    #[napi]
    pub fn matcher(&self) -> JsMatcher {
        JsMatcher(Arc::new(Mutex::new(State::Start(Arc::clone(&self.0)))))
    }
}

#[napi]
impl JsMatcher {
    /// Takes tokens and computes the masks of the next one and after drafts, on a thread of libuv.
    #[napi]
    pub fn advance(
        &self,
        tokens: Int32ArraySlice<'_>,
        drafts: Int32ArraySlice<'_>,
    ) -> AsyncTask<Background<AdvanceJob>> {
        let state = Arc::clone(&self.0);
        AsyncTask::new(Background(AdvanceJob { state, tokens: ids(&tokens), drafts: ids(&drafts) }))
    }

    /// Takes tokens and finds the bytes that must follow, on a thread of libuv.
    #[napi]
    pub fn forced(&self, tokens: Int32ArraySlice<'_>) -> AsyncTask<Background<ForcedJob>> {
        AsyncTask::new(Background(ForcedJob { state: Arc::clone(&self.0), tokens: ids(&tokens) }))
    }

    /// Frees the memory of the matcher, which cannot be used afterwards.
    #[napi]
    pub fn free(&self) -> Result<()> {
        guarded(|| {
            let mut state = match self.0.try_lock() {
                Ok(state) => state,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    return Err(error(Code::InvalidState, "the matcher is advancing; await it first"));
                }
            };
            *state = State::Freed;
            Ok(())
        })
    }
}

pub struct VocabularyJob {
    tokens: Vec<Vec<u8>>,
    special: Vec<bool>,
    end_tokens: Vec<u32>,
}

impl Job for VocabularyJob {
    type Output = Vocabulary;
    type JsValue = JsVocabulary;

    fn run(&mut self) -> std::result::Result<Vocabulary, Failure> {
        let tokens = std::mem::take(&mut self.tokens);
        Ok(Vocabulary::new(tokens, &self.special, &self.end_tokens).map_err(invalid)?)
    }

    fn into_js(vocabulary: Vocabulary) -> JsVocabulary {
        JsVocabulary(Arc::new(vocabulary))
    }
}

pub struct CompileJob {
    vocabulary: Arc<Vocabulary>,
    language: Language,
    source: String,
}

impl Job for CompileJob {
    type Output = Grammar;
    type JsValue = JsGrammar;

    fn run(&mut self) -> std::result::Result<Grammar, Failure> {
        self.vocabulary.compile(self.language, &self.source).map_err(compile_failure)
    }

    fn into_js(grammar: Grammar) -> JsGrammar {
        JsGrammar(Arc::new(grammar))
    }
}

fn compile_failure(reason: CompileError) -> Failure {
    let message = reason.to_string();
    let (code, detail) = match reason {
        CompileError::Thread(_) => (Code::ThreadsUnavailable, None),
        CompileError::Panicked => (Code::Panicked, None),
        CompileError::Grammar { problem, .. } => match problem {
            Problem::UnsupportedKeywords(keywords) => (Code::GrammarUnsupportedKeywords, Some(keywords)),
            Problem::UnsupportedFormat(format) => (Code::GrammarUnsupportedFormat, Some(format)),
            Problem::UnsupportedOneOf => (Code::GrammarUnsupportedOneOf, None),
            Problem::ExternalRef(reference) => (Code::GrammarExternalRef, Some(reference)),
            Problem::MissingRef(reference) => (Code::GrammarMissingRef, Some(reference)),
            Problem::Unsatisfiable(reason) => (Code::GrammarUnsatisfiable, Some(reason)),
            Problem::Other => (Code::GrammarInvalid, None),
        },
    };
    Failure::new(code, message, detail)
}

/// The ids of tokens. A negative one becomes one that no model has.
fn ids(tokens: &[i32]) -> Vec<u32> {
    tokens.iter().map(|&token| token as u32).collect()
}

/// Runs something on the matcher of a state, which is made if there is none yet.
fn with_matcher<T>(
    state: &Mutex<State>,
    run: impl FnOnce(&mut Matcher) -> std::result::Result<T, GrammarError>,
) -> std::result::Result<T, Failure> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if let State::Start(grammar) = &*state {
        *state = State::Started(Box::new(grammar.matcher()));
    }
    let result = match &mut *state {
        State::Started(matcher) => run(matcher).map_err(|reason| error(Code::MatcherFailed, reason)),
        State::Freed => Err(error(Code::InvalidState, "the matcher was freed")),
        State::Start(_) => unreachable!("the matcher was just started"),
    };
    Ok(result?)
}

pub struct AdvanceJob {
    state: Arc<Mutex<State>>,
    tokens: Vec<u32>,
    drafts: Vec<u32>,
}

pub struct ForcedJob {
    state: Arc<Mutex<State>>,
    tokens: Vec<u32>,
}

impl Job for AdvanceJob {
    type Output = Vec<u32>;
    type JsValue = Uint32Array;

    fn run(&mut self) -> std::result::Result<Vec<u32>, Failure> {
        with_matcher(&self.state, |matcher| matcher.advance(&self.tokens, &self.drafts))
    }

    fn into_js(masks: Vec<u32>) -> Uint32Array {
        Uint32Array::new(masks)
    }
}

impl Job for ForcedJob {
    type Output = Option<Vec<u8>>;
    type JsValue = Option<Uint8Array>;

    fn run(&mut self) -> std::result::Result<Option<Vec<u8>>, Failure> {
        with_matcher(&self.state, |matcher| matcher.forced(&self.tokens))
    }

    fn into_js(bytes: Option<Vec<u8>>) -> Option<Uint8Array> {
        bytes.map(Uint8Array::new)
    }
}
