import { createServer, type Server } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test, vi } from 'vitest'
import { watchGateway } from '../../../../infra/local/service/readiness.ts'

/** The machine may be busy. */
const PATIENT = { timeout: 120_000, interval: 1 }

/** A gateway whose health is refused, with two processes unless one has died. */
async function startWatch() {
  const state = { status: 200, answered: 0, refused: 0, processes: [1, 2] }
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
    state.processes = [5, 6]
  })
  const gateway = { pids: () => state.processes, kill }
  // No check is late, so that each one that fails was refused.
  const timeout = vi.spyOn(AbortSignal, 'timeout').mockImplementation(() => new AbortController().signal)
  const watching = watchGateway(`http://127.0.0.1:${port}`, gateway, ending.signal, 5)
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
  const { state, kill } = await startWatch()
  // Another process runs in its place.
  Object.assign(state, { status: 503, processes: [1, 3] })
  await vi.waitFor(() => expect(kill).toHaveBeenCalledOnce(), PATIENT)
  expect(state.refused).toBe(3)
})

test('a gateway that is only slow is killed after many checks, and a response ends the count', async () => {
  const { state, kill } = await startWatch()
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
