/** Timeouts of responses, as clients and nodes observe them: gateways with short timeouts in front of node doubles. */
import { env } from 'cloudflare:workers'
import { createExecutionContext } from 'cloudflare:test'
import type { ErrorBody } from '@copal/shared/errors.ts'
import type { RequestProgress } from '@copal/shared/wire/heartbeat.ts'
import type { CompletionCall } from '@copal/shared/wire/node-calls.ts'
import { expect, test } from 'vitest'
import { createApp } from '../../../../gateway/src/app.ts'
import type { PolicyBindings } from '../../../../gateway/src/contracts/fleet-policy.ts'
import { sendHeartbeat, createKey, errorOf, ORIGIN, until } from '../../support/requests/gateway-requests.ts'
import { startNode, type NodeDouble } from '../../support/doubles/node-double.ts'
import { stopClock } from '../../support/doubles/stopped-clock.ts'

const TOKEN = 'data: {"a":1}\n\n'
/** The script of a response that does not end. */
const SLOWLY = { times: 100, pauseMs: 100, ending: 'hang' } as const

/** Sends a request to a gateway with these limits. */
async function ask(limits: PolicyBindings, fields: object): Promise<Response> {
  const { key } = await createKey()
  const request = new Request(`${ORIGIN}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}` },
    body: JSON.stringify({ prompt: 'x', ...fields }),
  })
  return createApp().request(request, {}, { ...env, ...limits }, createExecutionContext())
}

/** Returns the error events of a stream, and whether the first of them is the last event. */
function errorsOf(text: string) {
  const events = text.trimEnd().split(/\n\n+/)
  const isError = (event: string) => event.startsWith('data: {"error"')
  return {
    errors: events.filter(isError).map((event) => (JSON.parse(event.slice(6)) as ErrorBody).error),
    last: events.findIndex(isError) === events.length - 1,
  }
}

const left = (node: NodeDouble, call: number) =>
  until('the gateway to leave', async () => (await node.calls())[call]?.leftAtMs ?? undefined)

test('a stream that exceeds the total timeout ends with one error event, and the call of its node is aborted', async () => {
  const goOn = stopClock()
  const node = await startNode('endless-1', [{ kind: 'stream', chunks: [TOKEN], ...SLOWLY }])
  await sendHeartbeat(node, 'endless')
  const response = await ask({ COPAL_TOTAL_TIMEOUT_MS: '15000' }, { model: 'endless', stream: true })
  expect(response.status).toBe(200)
  goOn(15_000)
  const text = await response.text()
  expect(text.startsWith(TOKEN)).toBe(true)
  const message =
    "Node 'endless-1' took longer than 15 s, the time limit of a response. Ask for fewer tokens."
  expect(errorsOf(text)).toMatchObject({ errors: [{ code: 'deadline_exceeded', message }], last: true })
  await left(node, 0)
})

test('a response that exceeds the total timeout is a 504, and no other node is called', async () => {
  const goOn = stopClock()
  const headers = { 'content-type': 'application/json' }
  const node = await startNode('lengthy-1', [{ kind: 'stream', headers, chunks: [' '], ...SLOWLY }])
  await sendHeartbeat(node, 'lengthy')
  const other = await startNode('lengthy-2', [{ kind: 'answer', headers, body: '{}' }])
  await sendHeartbeat(other, 'lengthy', {
    load: { running: 5, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 4096 },
  })
  const asked = ask({ COPAL_TOTAL_TIMEOUT_MS: '15000' }, { model: 'lengthy' })
  await expect.poll(() => node.calls()).toHaveLength(1)
  goOn(15_000)
  const response = await asked
  expect(response.status).toBe(504)
  expect(await errorOf(response)).toMatchObject({ code: 'deadline_exceeded' })
  await left(node, 0)
  expect(await other.calls()).toEqual([])
})

test('a stream that its node reports as stalled ends with one error event, and other streams continue', async () => {
  const goOn = stopClock()
  const node = await startNode('stall-1', [{ kind: 'stream', chunks: [TOKEN], ending: 'hang' }])
  await sendHeartbeat(node, 'stall')
  const limits = { COPAL_CONNECT_TIMEOUT_MS: '200', COPAL_IDLE_TIMEOUT_MS: '1500' }
  const stalled = await ask(limits, { model: 'stall', stream: true })
  const moving = await ask(limits, { model: 'stall', stream: true })
  const [stalledId = '', movingId = ''] = (await node.calls()).map(
    ({ body }) => (JSON.parse(body) as CompletionCall).requestId,
  )
  const sinceMs = Date.now()
  const progress = (requestId: string, idleMs: number): RequestProgress => ({
    requestId,
    promptTokens: 1,
    completionTokens: 1,
    idleMs,
  })
  let text: string | undefined
  void stalled.text().then((whole) => (text = whole))
  await until('the stalled stream to end', async () => {
    goOn(100)
    const requests = [progress(stalledId, Date.now() - sinceMs), progress(movingId, 0)]
    await sendHeartbeat(node, 'stall', { requests })
    return text
  })
  const message = "Node 'stall-1' stopped working on this request. Try again."
  expect(errorsOf(text ?? '')).toMatchObject({ errors: [{ code: 'node_failed', message }], last: true })
  expect(Date.now() - sinceMs).toBeGreaterThanOrEqual(1_500)
  await left(node, 0)
  expect((await node.calls())[1]?.leftAtMs).toBeNull()
  await moving.body?.cancel()
})
