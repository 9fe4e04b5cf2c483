import { createHash } from 'node:crypto'
import { AppError } from '@copal/shared/errors.ts'
import type { Addon, Grammar, Vocabulary } from '../../../native/addon.d.ts'
import { loadNative, NativeUnavailableError } from '../../platform/native-addon.ts'
import type { TokenConstraint } from '../contract/token-constraint.ts'
import { createLine } from '../../platform/serial-queue.ts'
import { unlessAborted } from '../../platform/unless-aborted.ts'
import type { LlamaConfig } from '../../model/config/llama-config.ts'
import type { TextCodec } from '../../model/tokenizer/text-codec.ts'
import { createByTenant } from './tenant-cache.ts'
import { createConstraint } from './grammar-constraint.ts'
import { explainRefusal } from './grammar-errors.ts'
import { createGrammarTrial, TooCostlyError, type GrammarTrial } from './compile-sandbox.ts'
import { createVocabulary } from './grammar-vocabulary.ts'

/** Loads of the addon what compiles. */
type Load = () => Pick<Addon, 'createVocabulary'>

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
   * @returns makes the constraint of one answer; answers of a tenant share what was compiled
   * @throws AppError `invalid_request` for a grammar that cannot be compiled, and where there is no addon to do it;
   * `overloaded` when too many wait for the compiler, `client_closed_request`, `node_failed`
   */
  compile(source: GrammarSource, asker?: GrammarAsker): Promise<() => TokenConstraint>
}

/** Who asks for a grammar. */
export interface GrammarAsker {
  /** Gives up its place in the line, unless others of the tenant ask for the same. */
  signal?: AbortSignal
  /** Of whom only a few grammars wait at the same time; nobody is one too. */
  tenant?: string | undefined
}

/** A grammar that is compiled, or will be. */
interface Compiling {
  grammar: Promise<Grammar>
  /** How many wait for it; when all have left before its turn, it is given up. */
  askers: number
  abandon: AbortController
}

/** Grammars that stay compiled, the ones used last. */
const KEPT_GRAMMARS = 32
/** Costly ones that are remembered, the ones found last. */
const KNOWN_COSTLY = 256
/** One is compiled at a time, so that no more than one thread is taken; so many may wait for it, and so many of a tenant. */
const MOST_WAITING = 16
const MOST_OF_TENANT = 4
/** No tenant's name. */
const NOBODY = ''

/** A compiler for a model's vocabulary, which is prepared when the first grammar comes. */
export function createGrammars(deps: {
  codec: Pick<TextCodec, 'tokenBytes' | 'isSpecial'>
  config: Pick<LlamaConfig, 'vocabSize' | 'eosTokenIds'>
  /** Loads the addon; tests give one that fails. */
  load?: Load
  /** What every grammar must pass first. */
  trial?: GrammarTrial
}): Grammars {
  const { codec, config, load = loadNative, trial = createGrammarTrial() } = deps
  const kept = createByTenant<Compiling>(KEPT_GRAMMARS)
  const costly = createByTenant<TooCostlyError>(KNOWN_COSTLY)
  const line = createLine('schemas to compile', MOST_WAITING)
  const waitingOf = new Map<string, number>()
  let vocabulary: Promise<Vocabulary> | undefined

  async function compile({ language, text, param }: GrammarSource, signal: AbortSignal): Promise<Grammar> {
    const addon = loadAddon(load, param)
    return line.run(async () => {
      vocabulary ??= createVocabulary(addon, codec, config)
      await Promise.all([vocabulary, trial({ language, text })])
      return (await vocabulary).compile(language, text)
    }, signal)
  }

  /** Counted for the tenant that asks first. */
  async function compileFor(
    tenant: string | undefined,
    source: GrammarSource,
    signal: AbortSignal,
  ): Promise<Grammar> {
    if (tenant === undefined) return compile(source, signal)
    const others = waitingOf.get(tenant) ?? 0
    if (others >= MOST_OF_TENANT) {
      const message = `This node already has ${others} schemas of yours to compile. Try again later.`
      throw new AppError('overloaded', message, { retryAfterS: 1 })
    }
    waitingOf.set(tenant, others + 1)
    try {
      return await compile(source, signal)
    } finally {
      const left = waitingOf.get(tenant)! - 1
      if (left > 0) waitingOf.set(tenant, left)
      else waitingOf.delete(tenant)
    }
  }

  function begin(key: string, source: GrammarSource, tenant: string | undefined): Compiling {
    const abandon = new AbortController()
    const grammar = compileFor(tenant, source, abandon.signal)
    const compiling = { grammar, askers: 0, abandon }
    const whose = tenant ?? NOBODY
    grammar.catch((thrown: unknown) => {
      if (kept.get(whose, key) === compiling) kept.delete(whose, key)
      if (thrown instanceof TooCostlyError) costly.set(whose, key, thrown)
    })
    return compiling
  }

  return {
    async compile(source, { signal, tenant } = {}) {
      const key = createHash('sha256').update(`${source.language} ${source.text}`).digest('base64')
      const whose = tenant ?? NOBODY
      const refused = costly.get(whose, key)
      if (refused) throw explainRefusal(refused, source.param)
      const compiling = kept.get(whose, key) ?? begin(key, source, tenant)
      kept.set(whose, key, compiling)
      compiling.askers += 1
      try {
        const grammar = await unlessAborted(compiling.grammar, signal)
        return () => createConstraint(grammar)
      } catch (thrown) {
        throw explainRefusal(thrown, source.param)
      } finally {
        compiling.askers -= 1
        if (compiling.askers === 0) compiling.abandon.abort()
      }
    },
  }
}

function loadAddon(load: Load, param: string): ReturnType<Load> {
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
