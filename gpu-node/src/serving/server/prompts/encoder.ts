import { Worker } from 'node:worker_threads'
import { AppError } from '@copal/shared/errors.ts'
import { textTooLong } from '../../engine/request-errors.ts'
import {
  createFairSerialQueue,
  type QueueLimits,
  type WorkOwner,
} from '../../../platform/fair-serial-queue.ts'
import type { DenseModel } from '../../../model/master/dense-model.ts'
import type { TextCodec } from '../../../model/tokenizer/text-codec.ts'

/** A rendered prompt, or a document that starts a context: the BOS token, if the model has one, precedes it. */
type TextKind = 'prompt' | 'document'

/** A request to the worker thread. */
export interface EncodeRequest {
  texts: readonly string[]
  kind: TextKind
}

/** Tokenises the texts of clients. */
export interface Encoder {
  /**
   * Tokenises short texts on the event loop, longer ones on a worker thread, where they block nothing else. There tenants
   * and their accounts take turns.
   *
   * @throws AppError `context_length_exceeded` for a text whose length or first part alone exceeds the context,
   * `overloaded`, `rate_limit_exceeded`, `node_failed`, `client_closed_request`
   */
  encode(texts: readonly string[], kind: TextKind, caller?: Caller): Promise<number[][]>
  /** Characters that {@link encode} takes of any text; in all but unusual text they fill the context. */
  readonly contextCharacters: number
}

/** The caller that waits for tokens. */
export interface Caller extends WorkOwner {
  signal?: AbortSignal | undefined
}

/** Characters that are tokenised on the event loop: a few milliseconds, or about 30 ms for one very long word. */
const MAX_INLINE_CHARACTERS = 4_096
/** Most characters per token in all but unusual text. */
const CHARACTERS_PER_TOKEN = 8
/** Tokens by which a cut text may differ at its end, because cutting changes how the last characters are tokenised. */
const CUT_SLACK_TOKENS = 16
/** Calls that may wait for the worker thread, which serves one at a time. */
const MAX_WAITING: QueueLimits = { total: 128, ofTenant: 96, ofAccount: 64 }
/** Idle time after which the worker thread ends. */
const IDLE_MS = 60_000

/** Creates the encoder of one model. Its worker thread starts with the first long text. */
export function createEncoder(
  { codec, config, tokenizer }: Pick<DenseModel, 'codec' | 'config' | 'tokenizer'>,
  contextLength: number,
): Encoder {
  const longestToken = longestTokenBytes(codec, config.vocabSize)
  const queue = createFairSerialQueue('texts to tokenise', MAX_WAITING)
  let thread: Worker | undefined
  let idle: NodeJS.Timeout | undefined

  const stop = () => {
    void thread?.terminate()
    thread = undefined
  }

  const start = (): Worker => {
    const started = new Worker(new URL('./encoder-worker.ts', import.meta.url), {
      execArgv: [],
      workerData: tokenizer,
    })
    const forget = () => {
      if (thread === started) thread = undefined
    }
    return started.on('error', forget).once('exit', forget)
  }

  async function encodeOnThread(request: EncodeRequest): Promise<number[][]> {
    clearTimeout(idle)
    try {
      return await callThread((thread ??= start()), request)
    } catch (cause) {
      stop()
      const text = 'The node failed while it tokenised this request. Try again.'
      throw new AppError('node_failed', text, { cause })
    } finally {
      idle = setTimeout(stop, IDLE_MS).unref()
    }
  }

  async function encodeAll(request: EncodeRequest, { signal, ...owner }: Caller): Promise<number[][]> {
    const { texts, kind } = request
    const characters = texts.reduce((sum, { length }) => sum + length, 0)
    return characters <= MAX_INLINE_CHARACTERS
      ? texts.map((text) => encodeAs(codec, text, kind))
      : queue.run(() => encodeOnThread(request), owner, signal)
  }

  const maxCharacters = CHARACTERS_PER_TOKEN * contextLength

  return {
    contextCharacters: Math.min(maxCharacters, longestToken * contextLength),
    async encode(texts, kind, caller = {}) {
      for (const text of texts) {
        const minTokens = Math.ceil(text.length / longestToken)
        if (minTokens > contextLength) throw textTooLong(minTokens, contextLength, 'at least')
      }
      for (const text of texts.filter(({ length }) => length > maxCharacters)) {
        const [firstPart] = await encodeAll({ texts: [text.slice(0, maxCharacters)], kind }, caller)
        const startTokens = firstPart!.length - CUT_SLACK_TOKENS
        if (startTokens > contextLength) throw textTooLong(startTokens, contextLength, 'at least')
      }
      return encodeAll({ texts, kind }, caller)
    },
  }
}

async function callThread(thread: Worker, request: EncodeRequest): Promise<number[][]> {
  const { promise, resolve, reject } = Promise.withResolvers<number[][]>()
  const onExit = () => reject(new Error('the tokeniser thread has ended'))
  thread.once('message', resolve).once('error', reject).once('exit', onExit)
  thread.ref()
  thread.postMessage(request)
  try {
    return await promise
  } finally {
    thread.off('message', resolve).off('error', reject).off('exit', onExit)
    thread.unref()
  }
}

/** Tokenises one text. */
export function encodeAs(
  codec: Pick<TextCodec, 'encode' | 'encodeDocument'>,
  text: string,
  kind: TextKind,
): number[] {
  return kind === 'prompt' ? codec.encode(text) : codec.encodeDocument(text)
}

/** Returns the length of the longest token in bytes, which bounds the characters that a token can stand for. */
function longestTokenBytes(codec: TextCodec, vocabSize: number): number {
  let longest = 1
  for (let id = 0; id < vocabSize; id++) longest = Math.max(longest, codec.tokenBytes(id).length)
  return longest
}
