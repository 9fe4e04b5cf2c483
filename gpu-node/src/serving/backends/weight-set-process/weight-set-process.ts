import { AppError, parseErrorBody } from '@copal/shared/errors.ts'
import type { SequenceOutput, SequenceWork } from '../../contract/backend.ts'
import { createHangWatch, type HangLimits } from '../../../platform/hang-watch.ts'
import { forkReporting } from '../../../platform/processor-time.ts'
import type { AllowedTokens, SentWork, WeightSetCall, WeightSetReply } from './weight-set-protocol.ts'

/** A {@link WeightSetCall} without its id. */
type CallBody<Options> =
  | { kind: 'load'; options: Options }
  | { kind: 'step'; work: readonly SentWork[]; drop: readonly number[] }
  | { kind: 'close' }

/** A call whose reply is awaited, and when it counts as hanging. */
interface WaitingCall extends PromiseWithResolvers<SequenceOutput[]> {
  limits: HangLimits
}

/** The node's side of a weight set process. */
export interface WeightSetProcess<Options> {
  readonly pid: number | undefined
  /** The numerics of the weights, once they are loaded; undefined where the process does not name them. */
  readonly numerics: string | undefined
  /** Makes a call. @throws AppError that the process returned, or `node_failed` when it ended or cannot be reached */
  call(body: CallBody<Options>): Promise<SequenceOutput[]>
  /** Runs a step as {@link call} does. The allowed tokens of its work are sent later, once they are known. */
  step(work: readonly SequenceWork[], drop: readonly number[]): Promise<SequenceOutput[]>
  /** Waits for running calls, ends the process, and settles when it has ended. */
  close(): Promise<void>
  /** Settles when the process has ended: with the cause, or with undefined after `close`. */
  readonly ended: Promise<Error | undefined>
}

/** Characters of the last error output that are kept, to explain why a process ended. */
const STDERR_CHARACTERS = 2000
/** Time after which a process that does not end by itself is killed. */
const CLOSE_TIMEOUT_MS = 30_000

/** Makes glibc use huge pages. Every step reads all weights, which is a tenth faster with them. */
const HUGE_PAGES = { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1' }

/** How the process of a weight set is started. */
export interface WeightSetProcessOptions {
  /** For messages: `mask version 3`. */
  name: string
  /** Threads of a call. */
  threads: number
  /** Kills the process. */
  signal?: AbortSignal | undefined
  /** Program of the process, which calls `serveWeightSet`. */
  worker: URL
  /** Returns when a call counts as hanging. */
  limits: (work?: readonly SequenceWork[]) => HangLimits
}

/**
 * Starts the process of a weight set. A process that hangs in a call is killed.
 *
 * @throws the reason of `signal`
 */
export function startWeightSetProcess<Options>({
  name,
  threads,
  signal,
  worker,
  limits,
}: WeightSetProcessOptions): WeightSetProcess<Options> {
  signal?.throwIfAborted()
  // oxlint-disable-next-line node/no-process-env -- the child needs the environment of the node (PATH, locale, proxies); no setting is read here
  const env = { ...HUGE_PAGES, ...process.env }
  const child = forkReporting(worker, { env, stderr: 'pipe' }, (processorMs) => watch.used(processorMs))
  /** Calls without a reply, which the process does in this order. */
  const waiting = new Map<number, WaitingCall>()
  const { promise: ended, resolve: end } = Promise.withResolvers<Error | undefined>()
  let nextId = 1
  let closing = false
  let failure: AppError | undefined
  let stderr = ''
  let numerics: string | undefined

  const kill = () => void child.kill('SIGKILL')
  signal?.addEventListener('abort', kill, { once: true })
  const fail = (how: string) => {
    if (failure) return
    signal?.removeEventListener('abort', kill)
    const lastLine = stderr.trim().split('\n').at(-1) ?? ''
    failure = new AppError('node_failed', `The process of ${name} ${how}${lastLine && `: ${lastLine}`}`)
    for (const call of waiting.values()) call.reject(failure)
    waiting.clear()
    watch.end()
    end(closing ? undefined : failure)
  }
  const watch = createHangWatch(threads, (how) => {
    kill()
    fail(how)
  })
  const watchNext = () => {
    const [next] = waiting.values()
    if (next) watch.begin(next.limits)
    else watch.end()
  }
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-STDERR_CHARACTERS)
  })
  child.on('error', (error) => {
    kill()
    fail(`could not be started or reached (${error.message})`)
  })
  child.on('exit', (code, endSignal) =>
    fail(endSignal ? `was ended by ${endSignal}` : `ended with exit code ${code}`),
  )
  child.on('message', (message) => {
    const reply = message as WeightSetReply
    const call = waiting.get(reply.id)
    waiting.delete(reply.id)
    watchNext()
    if ('outputs' in reply) {
      numerics = reply.numerics ?? numerics
      call?.resolve(reply.outputs)
    } else call?.reject(parseErrorBody(reply.failure) ?? new AppError('node_failed', `${name} failed.`))
  })

  const call = async (
    body: CallBody<Options>,
    id = nextId++,
    work?: readonly SequenceWork[],
  ): Promise<SequenceOutput[]> => {
    if (failure) throw failure
    const pending = { ...Promise.withResolvers<SequenceOutput[]>(), limits: limits(work) }
    waiting.set(id, pending)
    if (waiting.size === 1) watchNext()
    child.send({ ...body, id } satisfies WeightSetCall<Options>, (error) => {
      if (!error || !waiting.delete(id)) return
      pending.reject(
        new AppError('node_failed', `The process of ${name} cannot be reached.`, { cause: error }),
      )
    })
    return pending.promise
  }

  const sendAllowed = (message: AllowedTokens): void => {
    // An error is ignored here: a process that cannot be reached fails its step.
    if (!failure) child.send(message, () => undefined)
  }

  return {
    pid: child.pid,
    get numerics() {
      return numerics
    },
    ended,
    call: (body) => call(body),
    step(work, drop) {
      const id = nextId++
      const outputs = call({ kind: 'step', work: work.map(sentWork), drop }, id, work)
      for (const [index, { allowed }] of work.entries())
        void allowed?.then((mask) => sendAllowed({ kind: 'allowed', step: id, index, mask }))
      return outputs
    },
    async close() {
      if (closing) return void (await ended)
      closing = true
      const timer = setTimeout(kill, CLOSE_TIMEOUT_MS)
      // Only the end of the process counts; the reply may be lost.
      await call({ kind: 'close' }).catch(() => undefined)
      await ended
      clearTimeout(timer)
    },
  }
}

function sentWork({ allowed, ...work }: SequenceWork): SentWork {
  return allowed ? { ...work, awaitsAllowed: true } : work
}
