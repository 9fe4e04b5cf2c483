import { expect, onTestFinished, test, vi } from 'vitest'
import { AppError, errorBody } from '@copal/shared/errors.ts'
import { createGatewayClient } from '../../../../gpu-node/src/serving/control/gateway-client.ts'
import { createHeartbeatLoop } from '../../../../gpu-node/src/serving/control/heartbeat-loop.ts'
import type { Heartbeat, HeartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import { startGatewayDouble } from '../../../support/doubles/gateway-double.ts'
import { memoryLog } from '../../../support/doubles/memory-log.ts'
import { WAIT } from '../../../support/harness/wait.ts'

function beatOf(activeVersion: number): Heartbeat {
  return {
    nodeId: 'node-1',
    url: 'http://127.0.0.1:8790',
    draining: false,
    model: { id: 'tiny', baseSha256: '0'.repeat(64), contextLength: 256, parameters: 1000 },
    activeVersion,
    weightSets: [{ version: 0, state: 'ready', requests: 0 }],
    load: { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1024 },
    methods: ['copal'],
    leaving: false,
    requests: [],
    jobs: [],
  }
}

async function setup(intervalMs: number) {
  const gateway = await startGatewayDouble()
  const log = memoryLog()
  const answers: HeartbeatResponse[] = []
  let version = 0
  const heart = createHeartbeatLoop({
    gateway: createGatewayClient({ baseUrl: gateway.url, nodeId: gateway.nodeId, secret: gateway.secret }),
    log,
    intervalMs,
    debounceMs: 5,
    retryMs: 2,
  })
  const dialogue = {
    snapshot: (isLast: boolean) => ({ ...beatOf(version), leaving: isLast }),
    onResponse: (answer: HeartbeatResponse) => void answers.push(answer),
  }
  onTestFinished(async () => {
    await heart.stop()
    await gateway.close()
  })
  const start = () => heart.start(dialogue)
  return { gateway, log, answers, heart, start, setVersion: (next: number) => (version = next) }
}

test('the desired state and the jobs of the reply reach the node', async () => {
  const { gateway, answers, start } = await setup(60_000)
  gateway.desired = { active: { version: 3, sha256: 'a'.repeat(64) }, previous: null }
  start()
  await vi.waitFor(() => expect(answers).toHaveLength(1), WAIT)
  expect(answers[0]).toEqual({ registered: false, desired: gateway.desired, jobs: [] })
})

test('a change is reported at once, and changes close together share a heartbeat', async () => {
  const { gateway, heart, start, setVersion } = await setup(60_000)
  start()
  await vi.waitFor(() => expect(gateway.heartbeats).toHaveLength(1), WAIT)
  for (let version = 1; version <= 5; version++) {
    setVersion(version)
    heart.sendSoon()
  }
  await vi.waitFor(() => expect(gateway.heartbeats.at(-1)?.activeVersion).toBe(5), WAIT)
  expect(gateway.heartbeats).toHaveLength(2)
})

test('heartbeats repeat without being requested', async () => {
  const { gateway, start } = await setup(5)
  start()
  await vi.waitFor(() => expect(gateway.heartbeats.length).toBeGreaterThan(3), WAIT)
})

test('an unreachable gateway is logged once when it is lost and once when it returns', async () => {
  const { gateway, heart, start, log } = await setup(5)
  gateway.disconnect()
  start()
  await vi.waitFor(() => expect(log.lines).toHaveLength(1), WAIT)
  heart.sendSoon()
  // Several heartbeats fail meanwhile.
  await new Promise((resolve) => setTimeout(resolve, 100))
  gateway.reconnect()
  await vi.waitFor(() => expect(gateway.heartbeats.length).toBeGreaterThan(0), WAIT)
  await vi.waitFor(() => expect(log.lines).toHaveLength(2), WAIT)
  expect(log.lines[0]).toMatch(/gateway lost/)
  expect(log.lines[1]).toMatch(/gateway found again/)
})

test('a gateway that was lost and then rejects the node is logged again, once', async () => {
  const { gateway, start, log } = await setup(5)
  gateway.disconnect()
  start()
  await vi.waitFor(() => expect(log.lines).toHaveLength(1), WAIT)
  let rejected = 0
  gateway.intercept = (_request, response) => {
    rejected += 1
    const error = new AppError('invalid_signature', 'The signature does not match.')
    response.writeHead(401, { 'content-type': 'application/json' }).end(JSON.stringify(errorBody(error)))
    return true
  }
  gateway.reconnect()
  await vi.waitFor(() => expect(rejected).toBeGreaterThan(2), WAIT)
  gateway.intercept = undefined
  await vi.waitFor(() => expect(log.lines).toHaveLength(3), WAIT)
  expect(log.lines).toEqual([
    expect.stringMatching(/gateway lost/),
    expect.stringMatching(/rejects this node.*The signature does not match/),
    expect.stringMatching(/gateway found again/),
  ])
})

test('a lost response does not make the node silent, and a slow gateway gets the time that it needs', async () => {
  let nowMs = 0
  vi.spyOn(performance, 'now').mockImplementation(() => nowMs)
  onTestFinished(() => void vi.restoreAllMocks())
  const timeouts: (number | undefined)[] = []
  const response: HeartbeatResponse = {
    registered: true,
    desired: { active: null, previous: null },
    jobs: [],
  }
  const heart = createHeartbeatLoop({
    gateway: {
      async heartbeat(_, timeoutMs) {
        timeouts.push(timeoutMs)
        if (timeouts.length <= 3) throw new Error('no response')
        nowMs += timeouts.length === 4 ? 4_000 : 100
        return response
      },
    },
    log: memoryLog(),
    intervalMs: 2_000,
    debounceMs: 1,
    retryMs: 1,
  })
  onTestFinished(() => heart.stop())
  heart.start({ snapshot: () => beatOf(0), onResponse: () => heart.sendSoon() })
  await vi.waitFor(() => expect(timeouts.length).toBeGreaterThanOrEqual(6), WAIT)
  expect(timeouts.slice(0, 6)).toEqual([3_000, 6_000, 10_000, 10_000, 8_000, 3_000])
})

test('a reply that does not follow the protocol counts as an unreachable gateway', async () => {
  const { gateway, start, answers, log } = await setup(5)
  gateway.intercept = (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"desired": 1}')
    return true
  }
  start()
  await vi.waitFor(() => expect(log.lines).toHaveLength(1), WAIT)
  expect(answers).toEqual([])
  gateway.intercept = undefined
  await vi.waitFor(() => expect(answers.length).toBeGreaterThan(0), WAIT)
})

test('a node that stops sends a last heartbeat', async () => {
  const { gateway, heart, start, setVersion } = await setup(60_000)
  start()
  await vi.waitFor(() => expect(gateway.heartbeats).toHaveLength(1), WAIT)
  setVersion(9)
  await heart.stop()
  expect(gateway.heartbeats.map(({ activeVersion }) => activeVersion)).toEqual([0, 9])
})
