import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test, vi } from 'vitest'
import { processorTimeMs } from '../../../../infra/local/processes/process-group.ts'
import { watchGateway } from '../../../../infra/local/service/watch-gateway.ts'

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

/** A watched gateway, whose health is refused while its status is not 200. */
async function startWatch(processes: number[], limits: { idleMs: number; busyMs: number }) {
  const state = { status: 200, answered: 0, refused: 0, processes }
  const server: Server = createServer((_, response) => {
    if (state.status === 200) state.answered += 1
    else state.refused += 1
    response.writeHead(state.status).end()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const ending = new AbortController()
  const kill = vi.fn<() => void>(() => {
    state.status = 200
  })
  const gateway = { pids: () => state.processes, kill }
  // No check is late, so that each one that fails was refused.
  const timeout = vi.spyOn(AbortSignal, 'timeout').mockImplementation(() => new AbortController().signal)
  const origin = `http://127.0.0.1:${port}`
  const watching = watchGateway(origin, gateway, ending.signal, { watchMs: 5, ...limits })
  onTestFinished(async () => {
    ending.abort()
    await expect(watching).rejects.toThrow('aborted')
    timeout.mockRestore()
    server.close()
  })
  await vi.waitFor(() => expect(state.answered).toBeGreaterThan(1), PATIENT)
  return { state, kill }
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
