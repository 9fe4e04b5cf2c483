import { Worker } from 'node:worker_threads'
import { AppError } from '@copal/shared/errors.ts'
import { contextExceeded } from '../engine/request-errors.ts'
import { createLine } from '../../platform/serial-queue.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import type { TextCodec } from '../../model/tokenizer/text-codec.ts'

/** A prompt as it was rendered, or a text that starts a context: after the BOS, where there is one. */
type TextKind = 'prompt' | 'document'

/** What the thread is asked. */
export interface EncodeMessage {
  texts: readonly string[]
  as: TextKind
}

/** Tokenises what clients send. */
export interface Encoder {
  /**
   * Short texts at once, longer ones on a thread of its own, where they hold up nothing else.
   *
   * @throws AppError `context_length_exceeded` for a text that does not fit by its length or its beginning already,
   * `overloaded`, `node_failed`, `client_closed_request`
   */
  encode(texts: readonly string[], as: TextKind, signal?: AbortSignal): Promise<number[][]>
}

/** Characters that are tokenised at once: some milliseconds, or some thirty of one word without an end. */
const AT_ONCE_CHARACTERS = 4_096
/** Characters a token stands for at most in all but the oddest text. */
const CHARACTERS_PER_TOKEN = 8
/** Cutting a text may change how its last few characters are tokenised. */
const CUT_SLACK_TOKENS = 16
/** One call is tokenised at a time; so many may be there. */
const MOST_WAITING = 64
/** A thread that nobody needs for so long ends. */
const IDLE_MS = 60_000

/** Tokenises for one model; the thread is started for the first long text. */
export function createEncoder(
  { codec, config, tokenizer }: Pick<DenseModel, 'codec' | 'config' | 'tokenizer'>,
  contextLength: number,
): Encoder {
  const longestToken = longestTokenBytes(codec, config.vocabSize)
  const line = createLine('texts to tokenise', MOST_WAITING)
  let thread: Worker | undefined
  let idle: NodeJS.Timeout | undefined

  const stop = () => {
    void thread?.terminate()
    thread = undefined
  }

  const start = (): Worker => {
    const started = new Worker(new URL('./encoder-worker.ts', import.meta.url), {
      execArgv: [],
      workerData: JSON.stringify(tokenizer),
    })
    const forget = () => {
      if (thread === started) thread = undefined
    }
    return started.on('error', forget).once('exit', forget)
  }

  async function encodeAside(message: EncodeMessage): Promise<number[][]> {
    clearTimeout(idle)
    try {
      return await ask((thread ??= start()), message)
    } catch (cause) {
      stop()
      const said = 'The node failed while it tokenised this request. Try again.'
      throw new AppError('node_failed', said, { cause })
    } finally {
      idle = setTimeout(stop, IDLE_MS).unref()
    }
  }

  async function encodeAll(message: EncodeMessage, signal?: AbortSignal): Promise<number[][]> {
    const { texts, as } = message
    const characters = texts.reduce((sum, { length }) => sum + length, 0)
    return characters <= AT_ONCE_CHARACTERS
      ? texts.map((text) => encodeAs(codec, text, as))
      : line.run(() => encodeAside(message), signal)
  }

  return {
    async encode(texts, as, signal) {
      const most = CHARACTERS_PER_TOKEN * contextLength
      for (const text of texts) {
        const least = Math.ceil(text.length / longestToken)
        if (least > contextLength) throw contextExceeded(least, contextLength, 'at least')
      }
      for (const text of texts.filter(({ length }) => length > most)) {
        const [beginning] = await encodeAll({ texts: [text.slice(0, most)], as }, signal)
        const certain = beginning!.length - CUT_SLACK_TOKENS
        if (certain > contextLength) throw contextExceeded(certain, contextLength, 'at least')
      }
      return encodeAll({ texts, as }, signal)
    },
  }
}

async function ask(thread: Worker, message: EncodeMessage): Promise<number[][]> {
  const { promise, resolve, reject } = Promise.withResolvers<number[][]>()
  const onExit = () => reject(new Error('the thread that tokenises has ended'))
  thread.once('message', resolve).once('error', reject).once('exit', onExit)
  thread.ref()
  thread.postMessage(message)
  try {
    return await promise
  } finally {
    thread.off('message', resolve).off('error', reject).off('exit', onExit)
    thread.unref()
  }
}

/** The tokens of one text. */
export function encodeAs(
  codec: Pick<TextCodec, 'encode' | 'encodeDocument'>,
  text: string,
  as: TextKind,
): number[] {
  return as === 'prompt' ? codec.encode(text) : codec.encodeDocument(text)
}

/** No token stands for more characters than it has bytes. */
function longestTokenBytes(codec: TextCodec, vocabSize: number): number {
  let longest = 1
  for (let id = 0; id < vocabSize; id++) longest = Math.max(longest, codec.tokenBytes(id).length)
  return longest
}
