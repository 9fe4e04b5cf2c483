import { once } from 'node:events'

/** Of V8's own functions, which count what no other way of looking in counts; workerd keeps the Profiler's coverage shut. */
export const COUNTING_FLAGS = '--allow-natives-syntax'

/** Run in the Worker: counts the streams that JavaScript makes there, whose chunks go through its heap also without code. */
const COUNT_STREAMS = `globalThis.streamsMade = 0
for (const name of ['ReadableStream', 'WritableStream', 'TransformStream']) {
  globalThis[name] = new Proxy(globalThis[name], {
    construct(made, fields, as) {
      globalThis.streamsMade += 1
      return Reflect.construct(made, fields, as)
    },
  })
}`

/** Counts what JavaScript runs in a Worker. */
export interface CallCounts {
  /** How often each function and block ran since the last time, by its place and how it begins. */
  take(): Promise<Map<string, number>>
  /** Streams that were made since it began, but for native ones. */
  streamsMade(): Promise<number>
  close(): void
}

interface Answer {
  id?: number
  method?: string
  params?: { context: { id: number } }
  result?: { result: { value?: unknown } }
  error?: { message: string }
}

/**
 * Begins to count in the Worker `name`, in a workerd with {@link COUNTING_FLAGS}. Of functions that ran before, which V8
 * may have compiled without counters, it may miss some.
 *
 * @param port of its inspector
 * @param source of the Worker
 */
export async function countCalls(port: number, name: string, source: string): Promise<CallCounts> {
  const listed = await fetch(`http://127.0.0.1:${port}/json`)
  const targets = (await listed.json()) as { id: string; webSocketDebuggerUrl: string }[]
  const target = targets.find(({ id }) => id === `core:user:${name}`)
  if (!target) throw new Error(`there is no Worker ${name} among ${targets.map(({ id }) => id).join(', ')}`)
  const socket = new WebSocket(target.webSocketDebuggerUrl)
  await once(socket, 'open')
  const waiting = new Map<number, (answer: Answer) => void>()
  const context = Promise.withResolvers<number>()
  socket.addEventListener('message', ({ data }) => {
    const answer = JSON.parse(String(data)) as Answer
    if (answer.id !== undefined) waiting.get(answer.id)?.(answer)
    if (answer.method === 'Runtime.executionContextCreated' && answer.params)
      context.resolve(answer.params.context.id)
  })
  let lastId = 0
  const ask = async (method: string, params: object = {}): Promise<unknown> => {
    const id = ++lastId
    const answered = new Promise<Answer>((resolve) => waiting.set(id, resolve))
    socket.send(JSON.stringify({ id, method, params }))
    const { result, error } = await answered
    if (error) throw new Error(`${method}: ${error.message}`)
    return result?.result?.value
  }
  await ask('Runtime.enable')
  const contextId = await context.promise
  const evaluate = (expression: string) =>
    ask('Runtime.evaluate', { expression, contextId, returnByValue: true })
  await evaluate('%DebugTogglePreciseCoverage(true)')
  await evaluate('%DebugToggleBlockCoverage(true)')
  await evaluate(COUNT_STREAMS)
  const placeOf = (script: number, start: number, end: number) =>
    script === 0
      ? `${start}: ${source.slice(start, Math.min(end, start + 160)).replaceAll(/\s+/g, ' ')}`
      : `${start}-${end} of script ${script}`
  return {
    async take() {
      // A list of ranges for each script.
      const scripts = (await evaluate('%DebugCollectCoverage()')) as {
        start: number
        end: number
        count: number
      }[][]
      return new Map(
        scripts.flatMap((ranges, script) =>
          ranges.map(({ start, end, count }) => [placeOf(script, start, end), count] as const),
        ),
      )
    },
    streamsMade: async () => (await evaluate('streamsMade')) as number,
    close: () => socket.close(),
  }
}
