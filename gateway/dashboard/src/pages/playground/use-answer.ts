import { useCallback, useEffect, useRef, useState } from 'preact/hooks'
import type { Usage } from '@copal/shared/wire/inference-fields.ts'
import { toApiError } from '../../data/client.ts'
import { useClient } from '../../data/data.tsx'
import { readStream, type StreamEvent, type StreamToken } from './chat-stream.ts'
import { figuresOf, type AnswerFigures } from './surprise.ts'

/** One request of the playground. */
export interface Question {
  model: string
  /** 0 is dense. */
  version: number
  prompt: string
  maxTokens: number
  temperature: number
  /** The id of the key that is charged; `undefined`: that of the session. */
  keyId: string | undefined
}

/** An answer while it is streamed. */
export interface Answer {
  state: 'idle' | 'waiting' | 'streaming' | 'done' | 'stopped' | 'failed'
  tokens: readonly StreamToken[]
  figures: AnswerFigures
  usage: Usage | undefined
  /** The mask that generated it, as the response says. */
  maskVersion: number | undefined
  finish: string | undefined
  problem: string | undefined
}

const NOTHING: Answer = {
  state: 'idle',
  tokens: [],
  figures: { tokens: 0, meanSurprise: null, firstTokenMs: null, totalMs: null, tokensPerSecond: null },
  usage: undefined,
  maskVersion: undefined,
  finish: undefined,
  problem: undefined,
}

/** Asks for one answer at a time and streams it; the page is drawn once a frame at most. No question takes the answer away. */
export function useAnswer(): {
  answer: Answer
  ask: (question: Question | undefined) => void
  stop: () => void
} {
  const client = useClient()
  const [answer, setAnswer] = useState<Answer>(NOTHING)
  const abort = useRef<AbortController>(undefined)
  useEffect(() => () => abort.current?.abort(), [])
  const stop = useCallback(() => abort.current?.abort(), [])
  const ask = useCallback(
    (question: Question | undefined) => {
      abort.current?.abort()
      if (!question) {
        setAnswer(NOTHING)
        return
      }
      const controller = new AbortController()
      abort.current = controller
      const collector = new Collector((next) => {
        if (abort.current === controller) setAnswer(next)
      })
      client
        .open('POST', '/v1/chat/completions', bodyOf(question), {
          signal: controller.signal,
          headers: {
            'x-copal-sample': 'false',
            ...(question.keyId === undefined ? {} : { 'x-copal-key': question.keyId }),
          },
        })
        .then((response) => readStream(response, (event) => collector.add(event)))
        .then(
          () => collector.end(),
          (cause: unknown) => {
            if (controller.signal.aborted) collector.stop()
            else collector.fail(toApiError(cause).message)
          },
        )
    },
    [client],
  )
  return { answer, ask, stop }
}

function bodyOf({ model, version, prompt, maxTokens, temperature }: Question) {
  return {
    // As `formatModelName`, which brings the table of errors.
    model: version === 0 ? `${model}@dense` : `${model}@mask-${version}`,
    messages: [{ role: 'user', content: prompt }],
    max_completion_tokens: maxTokens,
    temperature,
    seed: 1,
    stream: true,
    stream_options: { include_usage: true },
    logprobs: true,
  }
}

/** Collects the events of one answer. */
class Collector {
  readonly #publish: (answer: Answer) => void
  readonly #sentMs = performance.now()
  readonly #tokens: StreamToken[] = []
  #firstMs: number | undefined
  #lastMs: number | undefined
  #rest: Pick<Answer, 'usage' | 'maskVersion' | 'finish' | 'problem'> = {
    usage: undefined,
    maskVersion: undefined,
    finish: undefined,
    problem: undefined,
  }
  #frame: number | undefined

  constructor(publish: (answer: Answer) => void) {
    this.#publish = publish
    publish({ ...NOTHING, state: 'waiting' })
  }

  add(event: StreamEvent): void {
    switch (event.kind) {
      case 'tokens':
        this.#lastMs = performance.now()
        this.#firstMs ??= this.#lastMs
        this.#tokens.push(...event.tokens)
        this.#rest.maskVersion = event.maskVersion
        this.#frame ??= requestAnimationFrame(() => this.#draw('streaming'))
        break
      case 'finish':
        this.#rest.finish = event.reason
        break
      case 'usage':
        this.#rest.usage = event.usage
        break
      case 'error':
        this.#rest.problem = event.message
        break
      case 'done':
        break
    }
  }

  end(): void {
    this.#draw(this.#rest.problem === undefined ? 'done' : 'failed')
  }

  stop(): void {
    this.#draw('stopped')
  }

  fail(message: string): void {
    this.#rest.problem = message
    this.#draw('failed')
  }

  #draw(state: Answer['state']): void {
    if (this.#frame !== undefined) cancelAnimationFrame(this.#frame)
    this.#frame = undefined
    const times = { sentMs: this.#sentMs, firstMs: this.#firstMs, lastMs: this.#lastMs }
    this.#publish({
      state,
      tokens: [...this.#tokens],
      figures: figuresOf(this.#tokens, times),
      ...this.#rest,
    })
  }
}
