import { AppError } from '@copal/shared/errors.ts'
import type { Grammar, Vocabulary } from '../../native/addon.d.ts'
import { loadNative, NativeUnavailableError } from '../backends/sparse/native.ts'
import type { TokenConstraint } from '../engine/constraint.ts'
import type { LlamaConfig } from '../model/config.ts'
import type { TextCodec } from '../model/tokenizer.ts'
import { createConstraint } from './constraint.ts'
import { explainRefusal } from './refusals.ts'
import { createGrammarTrial, type GrammarTrial } from './trial.ts'
import { createVocabulary } from './vocabulary.ts'

/** A grammar as the addon reads it, and the request's field that it comes from. */
export interface GrammarSource {
  language: 'json_schema' | 'lark'
  text: string
  /** To be named in errors: `response_format.json_schema.schema`. */
  param: string
}

/** Compiles grammars for one model. */
export interface Grammars {
  /**
   * @returns makes the constraint of one answer; answers share what was compiled
   * @throws AppError `invalid_request` for a grammar that cannot be compiled, and where there is no addon to do it;
   * `overloaded` when too many wait for the compiler
   */
  compile(source: GrammarSource): Promise<() => TokenConstraint>
}

/** Grammars that stay compiled, the ones used last. */
const KEPT_GRAMMARS = 32
/** One is compiled at a time, so that no more than one thread is taken; so many may wait for it. */
const MOST_WAITING = 16

/** A compiler for a model's vocabulary, which is prepared when the first grammar comes. */
export function createGrammars(deps: {
  codec: Pick<TextCodec, 'tokenBytes' | 'isSpecial'>
  config: Pick<LlamaConfig, 'vocabSize' | 'eosTokenIds'>
  /** Loads the addon; tests give one that fails. */
  load?: typeof loadNative
  /** What every grammar must pass first. */
  trial?: GrammarTrial
}): Grammars {
  const { codec, config, load = loadNative, trial = createGrammarTrial() } = deps
  const kept = new Map<string, Promise<Grammar>>()
  let vocabulary: Promise<Vocabulary> | undefined
  let last: Promise<unknown> = Promise.resolve()
  let waiting = 0

  const compile = async (source: GrammarSource): Promise<Grammar> => {
    const addon = loadAddon(load, source.param)
    if (waiting >= MOST_WAITING)
      throw new AppError(
        'overloaded',
        `This node already has ${MOST_WAITING} schemas to compile. Try again later.`,
        {
          retryAfterS: 1,
        },
      )
    waiting += 1
    const turn = last.then(async () => {
      vocabulary ??= createVocabulary(addon, codec, config)
      await Promise.all([vocabulary, trial({ language: source.language, text: source.text })])
      return (await vocabulary).compile(source.language, source.text)
    })
    last = turn.catch(() => undefined)
    try {
      return await turn
    } catch (thrown) {
      throw explainRefusal(thrown, source.param)
    } finally {
      waiting -= 1
    }
  }

  return {
    async compile(source) {
      const key = `${source.language} ${source.text}`
      const compiling = kept.get(key) ?? compile(source)
      kept.delete(key)
      kept.set(key, compiling)
      if (kept.size > KEPT_GRAMMARS) kept.delete(kept.keys().next().value as string)
      try {
        const grammar = await compiling
        return () => createConstraint(grammar)
      } catch (thrown) {
        if (kept.get(key) === compiling) kept.delete(key)
        throw thrown
      }
    },
  }
}

function loadAddon(load: typeof loadNative, param: string): ReturnType<typeof loadNative> {
  try {
    return load()
  } catch (cause) {
    if (!(cause instanceof NativeUnavailableError)) throw cause
    throw new AppError(
      'invalid_request',
      `This node cannot follow '${param}', since its native addon is not there. Ask for plain text, or have the addon ` +
        "built and try again: 'npm start' builds it in the background where cargo is, which takes some minutes; " +
        "'node infra/local/build-native.mjs' builds it at once. The node need not be started again.",
      { cause, param },
    )
  }
}
