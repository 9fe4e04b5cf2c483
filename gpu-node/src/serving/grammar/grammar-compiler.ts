import { createHash } from 'node:crypto'
import { AppError } from '@copal/shared/errors.ts'
import type { Addon, Grammar, Vocabulary } from '../../../native/addon.d.ts'
import { loadNative, NativeUnavailableError } from '../../platform/native-addon.ts'
import type { GrammarObserver } from '../contract/observers.ts'
import type { TokenConstraint } from '../contract/token-constraint.ts'
import { createFairSerialQueue, type QueueLimits, type WorkOwner } from '../../platform/fair-serial-queue.ts'
import { unlessAborted } from '../../platform/unless-aborted.ts'
import type { LlamaConfig } from '../../model/config/llama-config.ts'
import type { TextCodec } from '../../model/tokenizer/text-codec.ts'
import { createTenantCache } from './tenant-cache.ts'
import { createTenantSchemaLimits } from './tenant-schema-limits.ts'
import { createGrammarConstraint } from './grammar-constraint.ts'
import { toClientError } from './grammar-errors.ts'
import { createCompileSandbox, TooCostlyError, type CompileSandbox } from './compile-sandbox.ts'
import type { SandboxGrammar } from './compile-sandbox-protocol.ts'
import { createVocabulary } from './grammar-vocabulary.ts'

/** Loads the part of the addon that compiles grammars. */
type Load = () => Pick<Addon, 'createVocabulary'>

/** A grammar, and the request field that it comes from. */
export interface GrammarSource extends SandboxGrammar {
  /** Field named in errors, such as `response_format.json_schema.schema`. */
  param: string
}

/** Compiles grammars for one model. */
export interface GrammarCompiler {
  /**
   * Compiles a grammar. Requests of one tenant share compiled grammars.
   *
   * @returns a function that creates the constraint of one output
   * @throws AppError `invalid_request` when the grammar cannot be compiled or the addon is missing; `overloaded` with
   * `param` when too many grammars wait; `rate_limit_exceeded` when too many of the tenant or account do, or when its grammars made
   * the compiling process fail; `client_closed_request`, `node_failed`
   */
  compile(source: GrammarSource, options?: CompileOptions): Promise<() => TokenConstraint>
}

/** The origin of a request to compile. Requests without a tenant form a tenant of their own. */
export interface CompileOptions extends WorkOwner {
  /** Cancels the compilation if it waits, unless other requests of the tenant wait for the same grammar. */
  signal?: AbortSignal
}

/** A compiled grammar, or its compilation. */
interface SharedCompilation {
  grammar: Promise<Grammar>
  /** Requests that wait for it; when all have left before it starts, it is cancelled. */
  waiters: number
  abandon: AbortController
}

/** Compiled grammars that are cached, the most recently used. */
const MAX_CACHED = 32
/** Grammars that are remembered as too costly, the most recent. */
const MAX_KNOWN_COSTLY = 256
/**
 * Grammars that may wait. One is compiled at a time, so that compilation takes one thread at most. Two tenants leave a third of the
 * places to others.
 */
const MAX_WAITING: QueueLimits = { total: 24, ofTenant: 8, ofAccount: 4 }
/** Key of requests without a tenant; no tenant has this name. */
const NO_TENANT = ''

/** Creates the compiler for a model's vocabulary, which is prepared with the first grammar. */
export function createGrammarCompiler(deps: {
  codec: Pick<TextCodec, 'tokenBytes' | 'isSpecial' | 'encode'>
  config: Pick<LlamaConfig, 'vocabSize' | 'eosTokenIds'>
  /** Loads the addon; replaced in tests. */
  load?: Load
  /** Sandbox in which every grammar is compiled first. */
  sandbox?: CompileSandbox
  observer?: GrammarObserver
  nowMs?: () => number
}): GrammarCompiler {
  const { codec, config, load = loadNative, sandbox = createCompileSandbox() } = deps
  const cached = createTenantCache<SharedCompilation>(MAX_CACHED)
  const costly = createTenantCache<TooCostlyError>(MAX_KNOWN_COSTLY)
  const queue = createFairSerialQueue('schemas to compile', MAX_WAITING)
  const limits = createTenantSchemaLimits(deps.nowMs)
  let vocabulary: Promise<Vocabulary> | undefined

  /** Makes the vocabulary once; after a failure again. */
  function makeVocabulary(addon: ReturnType<Load>): Promise<Vocabulary> {
    vocabulary ??= createVocabulary(addon, codec, config).catch((error: unknown) => {
      vocabulary = undefined
      throw error
    })
    return vocabulary
  }

  async function compile(
    { language, text, param }: GrammarSource,
    owner: WorkOwner,
    signal: AbortSignal,
  ): Promise<Grammar> {
    const addon = loadAddon(load, param)
    const startedMs = performance.now()
    const observe = (outcome: 'compiled' | 'failed') =>
      deps.observer?.compiled(outcome, performance.now() - startedMs)
    const work = async () => {
      const making = makeVocabulary(addon)
      // Awaited below. The sandbox must have ended before the next grammar's turn, also after a failure here.
      making.catch(() => undefined)
      await sandbox({ language, text })
      return (await making).compile(language, text)
    }
    try {
      const grammar = await queue.run(work, owner, signal)
      observe('compiled')
      return grammar
    } catch (thrown) {
      if (isQueueLimit(thrown)) throw ofField(thrown, param)
      if (!signal.aborted) observe('failed')
      throw thrown
    }
  }

  /** Compiles a grammar, counted for the one that requested it first. */
  async function compileFor(
    owner: WorkOwner,
    key: string,
    source: GrammarSource,
    signal: AbortSignal,
  ): Promise<Grammar> {
    const { tenant } = owner
    if (tenant === undefined) return compile(source, owner, signal)
    limits.check(tenant, { key, param: source.param })
    try {
      return await compile(source, owner, signal)
    } catch (thrown) {
      const isCrash = thrown instanceof AppError && thrown.code === 'node_failed'
      if (isCrash || thrown instanceof TooCostlyError) limits.recordCrash(tenant, key)
      throw thrown
    }
  }

  function startCompiling(key: string, source: GrammarSource, owner: WorkOwner): SharedCompilation {
    const abandon = new AbortController()
    const grammar = compileFor(owner, key, source, abandon.signal)
    const compiling = { grammar, waiters: 0, abandon }
    const tenant = owner.tenant ?? NO_TENANT
    grammar.catch((thrown: unknown) => {
      if (cached.get(tenant, key) === compiling) cached.delete(tenant, key)
      if (thrown instanceof TooCostlyError) costly.set(tenant, key, thrown)
    })
    return compiling
  }

  /** Returns a compiled grammar, or waits for its compilation with others. */
  async function compileShared(
    key: string,
    source: GrammarSource,
    options: CompileOptions,
  ): Promise<Grammar> {
    const { signal, ...owner } = options
    const tenant = owner.tenant ?? NO_TENANT
    const knownCostly = costly.get(tenant, key)
    if (knownCostly) throw knownCostly
    const compiling = cached.get(tenant, key) ?? startCompiling(key, source, owner)
    cached.set(tenant, key, compiling)
    compiling.waiters += 1
    try {
      return await unlessAborted(compiling.grammar, signal)
    } catch (thrown) {
      // It was cancelled because all others had left, just before this request came.
      if (isCancelled(thrown) && !signal?.aborted) return compileShared(key, source, options)
      throw thrown
    } finally {
      compiling.waiters -= 1
      if (compiling.waiters === 0) compiling.abandon.abort()
    }
  }

  return {
    async compile(source, options = {}) {
      const key = createHash('sha256').update(`${source.language} ${source.text}`).digest('base64')
      try {
        const grammar = await compileShared(key, source, options)
        return () => createGrammarConstraint(grammar, codec, config.vocabSize)
      } catch (thrown) {
        throw toClientError(thrown, source.param)
      }
    },
  }
}

function isCancelled(thrown: unknown): boolean {
  return thrown instanceof AppError && thrown.code === 'client_closed_request'
}

function isQueueLimit(thrown: unknown): thrown is AppError {
  return thrown instanceof AppError && (thrown.code === 'overloaded' || thrown.code === 'rate_limit_exceeded')
}

/** Names the field that a busy part of the node concerns, so that the node does not count as full for other requests. */
function ofField({ code, message, retryAfterS = 1 }: AppError, param: string): AppError {
  return new AppError(code, message, { param, retryAfterS })
}

function loadAddon(load: Load, param: string): ReturnType<Load> {
  try {
    return load()
  } catch (cause) {
    if (!(cause instanceof NativeUnavailableError)) throw cause
    throw new AppError(
      'invalid_request',
      `This node does not support '${param}', because its native addon is missing. Request plain text, or build the ` +
        "addon and try again: 'npm start' builds it in the background if cargo is installed, which takes some minutes; " +
        "'node infra/local/build-native.mjs' builds it at once. The node need not be restarted.",
      { cause, param },
    )
  }
}
