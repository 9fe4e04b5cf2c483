import { once } from 'node:events'

/** Allows V8's internal functions, which count calls. workerd does not offer the Profiler's coverage. */
export const COUNTING_FLAGS = '--allow-natives-syntax'

/** Runs in the Worker and counts the streams that JavaScript creates, whose chunks go through its heap. */
const COUNT_STREAMS = `globalThis.streamsMade = 0
for (const name of ['ReadableStream', 'WritableStream', 'TransformStream']) {
  globalThis[name] = new Proxy(globalThis[name], {
    construct(made, fields, as) {
      globalThis.streamsMade += 1
      return Reflect.construct(made, fields, as)
    },
  })
}`

/** Counts the JavaScript that runs in a Worker. */
export interface CallCounts {
  /** Returns how often each function and block ran since the last call, by its position and first characters. */
  take(): Promise<Map<string, number>>
  /** Returns how many JavaScript streams were created since the start. */
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
