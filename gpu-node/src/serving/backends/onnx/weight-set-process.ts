import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { AppError, parseErrorBody } from '@copal/shared/errors.ts'
import type { SequenceOutput, SequenceWork } from '../../contract/backend.ts'
import type { AllowedTokens, Answer, Call, SentWork } from './weight-set-protocol.ts'

/** A {@link Call} before it has its number. */
type CallBody = Call extends infer Each ? (Each extends Call ? Omit<Each, 'id'> : never) : never

/** The node's side of a weight set process. */
export interface WeightSetProcess {
  readonly pid: number | undefined
  /** @throws AppError what the process answered, or `node_failed` when it died or cannot be reached */
  call(body: CallBody): Promise<SequenceOutput[]>
  /** As {@link call}; what the work may sample is sent after it, as it becomes known. */
  step(work: readonly SequenceWork[], drop: readonly number[]): Promise<SequenceOutput[]>
  /** Lets calls in flight finish, ends the process, and settles when it is gone. */
  close(): Promise<void>
  /** Settles when the process is gone: with the cause, or with undefined after `close`. */
  readonly ended: Promise<Error | undefined>
}

const WORKER = fileURLToPath(new URL('./weight-set-worker.ts', import.meta.url))
/** What a dead process last wrote is its epitaph; this much of it. */
const STDERR_CHARACTERS = 2000
/** A process that does not end by itself within this is killed. */
const CLOSE_TIMEOUT_MS = 30_000

/** glibc asks for huge pages: weights are read in whole at every step, which is a tenth faster with them. */
const HUGE_PAGES = { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1' }

/** Starts a process; `name` is for messages: `mask version 3`. */
export function startWeightSetProcess(name: string): WeightSetProcess {
  const child = fork(WORKER, [], {
    serialization: 'advanced',
    execArgv: [],
    // oxlint-disable-next-line node/no-process-env -- handed on whole, nothing of it is read
    env: { ...HUGE_PAGES, ...process.env },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  const waiting = new Map<number, PromiseWithResolvers<SequenceOutput[]>>()
  const { promise: ended, resolve: end } = Promise.withResolvers<Error | undefined>()
  let nextId = 1
  let closing = false
  let gone: AppError | undefined
  let stderr = ''

  const fail = (how: string) => {
    if (gone) return
    const said = stderr.trim().split('\n').at(-1) ?? ''
    gone = new AppError('node_failed', `The process of ${name} ${how}${said && `: ${said}`}`)
    for (const call of waiting.values()) call.reject(gone)
    waiting.clear()
    end(closing ? undefined : gone)
  }
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-STDERR_CHARACTERS)
  })
  child.on('error', (error) => {
    child.kill('SIGKILL')
    fail(`could not be started or reached (${error.message})`)
  })
  child.on('exit', (code, signal) => fail(signal ? `was ended by ${signal}` : `ended with exit code ${code}`))
  child.on('message', (message) => {
    const answer = message as Answer
    const call = waiting.get(answer.id)
    waiting.delete(answer.id)
    if ('outputs' in answer) call?.resolve(answer.outputs)
    else call?.reject(parseErrorBody(answer.failure) ?? new AppError('node_failed', `${name} failed.`))
  })

  const call = async (body: CallBody, id = nextId++): Promise<SequenceOutput[]> => {
    if (gone) throw gone
    const pending = Promise.withResolvers<SequenceOutput[]>()
    waiting.set(id, pending)
    child.send({ ...body, id } satisfies Call, (error) => {
      if (!error || !waiting.delete(id)) return
      pending.reject(
        new AppError('node_failed', `The process of ${name} cannot be reached.`, { cause: error }),
      )
    })
    return pending.promise
  }

  const tell = (message: AllowedTokens): void => {
    // A process that cannot be reached fails its step, which is told there.
    if (!gone) child.send(message, () => undefined)
  }

  return {
    pid: child.pid,
    ended,
    call: (body) => call(body),
    step(work, drop) {
      const id = nextId++
      const outputs = call({ kind: 'step', work: work.map(sentWork), drop }, id)
      for (const [index, { allowed }] of work.entries())
        void allowed?.then((mask) => tell({ kind: 'allowed', step: id, index, mask }))
      return outputs
    },
    async close() {
      if (closing) return void (await ended)
      closing = true
      const timer = setTimeout(() => child.kill('SIGKILL'), CLOSE_TIMEOUT_MS)
      // Its end is what counts; the answer may be lost in it.
      await call({ kind: 'close' }).catch(() => undefined)
      await ended
      clearTimeout(timer)
    },
  }
}

function sentWork({ allowed, ...work }: SequenceWork): SentWork {
  return allowed ? { ...work, awaitsAllowed: true } : work
}
