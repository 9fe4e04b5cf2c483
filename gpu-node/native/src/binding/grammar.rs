use super::{guarded, invalid};
use crate::grammar::{Grammar, GrammarError, Language, Matcher, Vocabulary};
use napi::bindgen_prelude::{
    AsyncTask, Env, Error, Int32ArraySlice, Result, Status, Task, Uint8ArraySlice, Uint32Array,
    Uint32ArraySlice,
};
use napi_derive::napi;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

/// Token ids are 24 bits in the tree.
const MOST_TOKENS: usize = 1 << 23;

/// A model's tokens, ready to compile grammars for.
#[napi(js_name = "Vocabulary")]
pub struct JsVocabulary(Arc<Vocabulary>);

/// A compiled grammar.
#[napi(js_name = "Grammar")]
pub struct JsGrammar(Arc<Grammar>);

/// How far one answer has come; made from the grammar when it is first asked. It may take megabytes, of which V8 knows
/// nothing: so it is freed when the answer ends, not when it is collected.
#[napi(js_name = "Matcher")]
pub struct JsMatcher(Arc<Mutex<Place>>);

enum Place {
    Beginning(Arc<Grammar>),
    Within(Box<Matcher>),
    Freed,
}

/// Makes a vocabulary on a thread of libuv.
#[napi]
pub fn create_vocabulary(
    bytes: Uint8ArraySlice<'_>,
    lengths: Uint32ArraySlice<'_>,
    special: Uint8ArraySlice<'_>,
    end_tokens: Uint32ArraySlice<'_>,
) -> Result<AsyncTask<VocabularyTask>> {
    guarded(|| {
        if lengths.len() > MOST_TOKENS {
            return Err(invalid(format!("{} tokens are more than {MOST_TOKENS}", lengths.len())));
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
        Ok(AsyncTask::new(VocabularyTask { tokens, special, end_tokens: end_tokens.to_vec() }))
    })
}

#[napi]
impl JsVocabulary {
    /// Compiles a grammar on a thread of libuv.
    #[napi]
    pub fn compile(&self, language: String, source: String) -> Result<AsyncTask<CompileTask>> {
        guarded(|| {
            let language = Language::named(&language).map_err(invalid)?;
            Ok(AsyncTask::new(CompileTask { vocabulary: Arc::clone(&self.0), language, source }))
        })
    }
}

#[napi]
impl JsGrammar {
    /// A matcher at the beginning of an answer.
    #[napi]
    pub fn matcher(&self) -> JsMatcher {
        JsMatcher(Arc::new(Mutex::new(Place::Beginning(Arc::clone(&self.0)))))
    }
}

#[napi]
impl JsMatcher {
    /// Takes tokens and computes the mask of the next one on a thread of libuv.
    #[napi]
    pub fn advance(&self, tokens: Int32ArraySlice<'_>) -> AsyncTask<AdvanceTask> {
        // A negative token becomes one that no model has.
        let tokens = tokens.iter().map(|&token| token as u32).collect();
        AsyncTask::new(AdvanceTask { place: Arc::clone(&self.0), tokens })
    }

    /// Gives back what it holds; it is of no more use.
    #[napi]
    pub fn free(&self) -> Result<()> {
        guarded(|| {
            let mut place = match self.0.try_lock() {
                Ok(place) => place,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    return Err(invalid("the matcher is advancing; await it first"));
                }
            };
            *place = Place::Freed;
            Ok(())
        })
    }
}

pub struct VocabularyTask {
    tokens: Vec<Vec<u8>>,
    special: Vec<bool>,
    end_tokens: Vec<u32>,
}

impl Task for VocabularyTask {
    type Output = Vocabulary;
    type JsValue = JsVocabulary;

    fn compute(&mut self) -> Result<Vocabulary> {
        let tokens = std::mem::take(&mut self.tokens);
        guarded(|| Vocabulary::new(tokens, &self.special, &self.end_tokens).map_err(invalid))
    }

    fn resolve(&mut self, _: Env, output: Vocabulary) -> Result<JsVocabulary> {
        Ok(JsVocabulary(Arc::new(output)))
    }
}

pub struct CompileTask {
    vocabulary: Arc<Vocabulary>,
    language: Language,
    source: String,
}

impl Task for CompileTask {
    type Output = Grammar;
    type JsValue = JsGrammar;

    fn compute(&mut self) -> Result<Grammar> {
        guarded(|| self.vocabulary.compile(self.language, &self.source).map_err(invalid))
    }

    fn resolve(&mut self, _: Env, output: Grammar) -> Result<JsGrammar> {
        Ok(JsGrammar(Arc::new(output)))
    }
}

pub struct AdvanceTask {
    place: Arc<Mutex<Place>>,
    tokens: Vec<u32>,
}

impl Task for AdvanceTask {
    type Output = Vec<u32>;
    type JsValue = Uint32Array;

    fn compute(&mut self) -> Result<Vec<u32>> {
        guarded(|| {
            let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
            if let Place::Beginning(grammar) = &*place {
                *place = Place::Within(Box::new(grammar.matcher()));
            }
            match &mut *place {
                Place::Within(matcher) => matcher.advance(&self.tokens).map_err(failed),
                Place::Freed => Err(invalid("the matcher was freed")),
                Place::Beginning(_) => unreachable!("it was just made"),
            }
        })
    }

    fn resolve(&mut self, _: Env, output: Vec<u32>) -> Result<Uint32Array> {
        Ok(Uint32Array::new(output))
    }
}

fn failed(error: GrammarError) -> Error {
    Error::new(Status::GenericFailure, error.to_string())
}
