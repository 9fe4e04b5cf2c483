import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { StartError } from '../../../../infra/local/processes/start-error.ts'
import { processorTimeMs } from '../../../../infra/local/processes/process-group.ts'
import { watchGateway } from '../../../../infra/local/service/watch-gateway.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

/** The machine may be busy. */
const PATIENT = { timeout: 120_000, interval: 1 }

/** Starts a process that waits, or one that computes without end. */
async function startProcess(kind: 'waits' | 'computes'): Promise<number> {
  const program = kind === 'waits' ? 'setInterval(() => {}, 1e6)' : 'for (;;);'
  const child = spawn(process.execPath, ['-e', `console.log('runs');${program}`], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  if (child.pid === undefined) throw new Error('it did not start')
  return child.pid
}

const LEADER = 1000
/** Far longer than a test. */
const NEVER_MS = 1e6

/**
 * A watched gateway, whose health is refused while its status is not 200.
 *
 * @param recovers whether a kill makes it healthy again
 */
async function startWatch(
  processes: number[],
  limits: { idleMs: number; busyMs: number; startMs?: number },
  recovers = true,
) {
  const state = { status: 200, answered: 0, refused: 0, processes, leader: LEADER as number | undefined }
  const server: Server = createServer((_, response) => {
    if (state.status === 200) state.answered += 1
    else state.refused += 1
    response.writeHead(state.status).end()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const ending = new AbortController()
  const kill = vi.fn<() => void>(() => {
    if (recovers) state.status = 200
  })
  const logPath = join(temporaryDir(), 'gateway.log')
  writeFileSync(logPath, 'the database is damaged\n')
  const gateway = {
    origin: `http://127.0.0.1:${port}`,
    logPath,
    pid: () => state.leader,
    pids: () => state.processes,
    kill,
  }
  const lines: string[] = []
  // No check is late, so that each one that fails was refused.
  const timeout = vi.spyOn(AbortSignal, 'timeout').mockImplementation(() => new AbortController().signal)
  const watching = watchGateway(gateway, (line) => lines.push(line), ending.signal, {
    watchMs: 5,
    startMs: NEVER_MS,
    ...limits,
  })
  watching.catch(() => undefined)
  onTestFinished(async () => {
    ending.abort()
    await expect(watching).rejects.toThrow(/aborted|never healthy/)
    timeout.mockRestore()
    server.close()
  })
  await vi.waitFor(() => expect(state.answered).toBeGreaterThan(1), PATIENT)
  return { state, kill, lines, watching, gateway }
}

test('a gateway without a response is killed soon if one of its processes has died', async () => {
  const waiting = await startProcess('waits')
  const { state, kill } = await startWatch([waiting, process.pid], { idleMs: 0, busyMs: Infinity })
  // Another process runs in its place.
  Object.assign(state, { status: 503, processes: [waiting, 1] })
  await vi.waitFor(() => expect(kill).toHaveBeenCalledOnce(), PATIENT)
  expect(state.refused).toBe(3)
})

test('a gateway that waits without using the processor is killed after many checks, and a response ends the count', async () => {
  const waiting = await startProcess('waits')
  const { state, kill } = await startWatch([waiting], { idleMs: 1000, busyMs: Infinity })
  for (let round = 0; round < 3; round++) {
    const { answered, refused } = state
    state.status = 503
    await vi.waitFor(() => expect(state.refused - refused).toBeGreaterThan(5), PATIENT)
    state.status = 200
    await vi.waitFor(() => expect(state.answered - answered).toBeGreaterThan(1), PATIENT)
  }
  expect(kill).not.toHaveBeenCalled()
  const { refused } = state
  state.status = 503
  await vi.waitFor(() => expect(kill).toHaveBeenCalledOnce(), PATIENT)
  expect(state.refused - refused).toBe(20)
})

test('a gateway that uses the little processor time that it gets is killed only when it would be in an endless loop', async () => {
  const computing = await startProcess('computes')
  const busyMs = 500
  const { state, kill } = await startWatch([computing], { idleMs: 0, busyMs })
  const usedMs = processorTimeMs([computing])
  state.status = 503
  const used = () => processorTimeMs([computing]) - usedMs
  await vi.waitFor(
    () => expect(kill, `${used()} ms, ${JSON.stringify(state)}`).toHaveBeenCalledOnce(),
    PATIENT,
  )
  // Processor time is told in pieces of 10 ms.
  expect(used()).toBeGreaterThanOrEqual(busyMs - 20)
})

test('a gateway that has ended is not killed while it is started again, however long that takes', async () => {
  const waiting = await startProcess('waits')
  const { state, kill, lines } = await startWatch([waiting], { idleMs: 1000, busyMs: 0 })
  Object.assign(state, { status: 503, processes: [], leader: undefined })
  await vi.waitFor(() => expect(state.refused).toBeGreaterThan(3), PATIENT)
  Object.assign(state, { leader: LEADER + 1, processes: [process.pid] })
  const { refused } = state
  await vi.waitFor(() => expect(state.refused - refused).toBeGreaterThan(3), PATIENT)
  const { answered } = state
  state.status = 200
  await vi.waitFor(() => expect(state.answered - answered).toBeGreaterThan(2), PATIENT)
  expect(kill).not.toHaveBeenCalled()
  expect(lines).toEqual([])
})

test('a gateway that is never healthy after it was started again is killed and started anew, and then ends the service with its log', async () => {
  const waiting = await startProcess('waits')
  const limits = { idleMs: 0, busyMs: Infinity, startMs: 20 }
  const { state, kill, lines, watching, gateway } = await startWatch([waiting, process.pid], limits, false)
  Object.assign(state, { status: 503, processes: [waiting] })
  const failure = await watching.catch((error: unknown) => error)
  expect(failure).toBeInstanceOf(StartError)
  expect((failure as Error).message).toBe(
    `The gateway was started again 3 times and was never healthy. Its log, ${gateway.logPath}, ends:\nthe database is damaged`,
  )
  expect(kill).toHaveBeenCalledTimes(3)
  expect(lines).toEqual([
    'The gateway does not respond, so it is killed.',
    'The gateway was started again and was not healthy within 0 s, so it is killed.',
    'The gateway was started again and was not healthy within 0 s, so it is killed.',
  ])
})
