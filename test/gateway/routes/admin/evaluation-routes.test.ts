import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { describe, expect, test } from 'vitest'
import { createApp } from '../../../../gateway/src/app.ts'
import { evaluationRoutes } from '../../../../gateway/src/routes/admin/evaluation-routes.ts'
import { admin, importTexts, SimulatedNode, startUpdate } from '../../support/doubles/simulated-node.ts'
import { sendHeartbeat, errorOf, ORIGIN } from '../../support/requests/gateway-requests.ts'
import { startNode } from '../../support/doubles/node-double.ts'
import { stopClock } from '../../support/doubles/stopped-clock.ts'

describe('evaluating a text', () => {
  const lines = ['{"type":"progress","windowsDone":1,"windowsTotal":1}\n', '{"type":"result","tokens":3}\n']

  test('runs on a live node, which gets the reference of the mask, and relays its lines unchanged', async () => {
    const node = new SimulatedNode('eval-0', 'eval')
    await node.beat()
    await importTexts('eval-a')
    await node.finish((await startUpdate('eval', ['eval-a'])).id)
    const double = await startNode('eval-1', [{ kind: 'stream', chunks: lines, ending: 'end' }])
    await node.beat({ draining: true })
    await sendHeartbeat({ id: 'eval-1', url: double.url }, 'eval', {
      activeVersion: 1,
      weightSets: [{ version: 1, state: 'ready', requests: 0 }],
    })
    const response = await admin('POST', '/evaluate', {
      model: 'eval',
      text: 'some text',
      window_tokens: 32,
      max_windows: 2,
    })
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toContain('ndjson')
    expect(await response.text()).toBe(lines.join(''))
    const [call] = await double.calls()
    expect(call).toMatchObject({ method: 'POST', path: '/rpc/evaluate' })
    expect(JSON.parse(call?.body ?? '')).toEqual({
      model: 'eval',
      maskVersion: 1,
      mask: { version: 1, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
      text: 'some text',
      windowTokens: 32,
      maxWindows: 2,
    })
    await (await admin('POST', '/evaluate', { model: 'eval', text: 'some text', mask_version: 0 })).text()
    const dense = JSON.parse((await double.calls())[1]?.body ?? '') as Record<string, unknown>
    expect(dense).toMatchObject({ maskVersion: 0, windowTokens: 1024 })
    expect(dense).not.toHaveProperty('mask')
    const unknown = await admin('POST', '/evaluate', { model: 'eval', text: 'x', mask_version: 9 })
    expect([unknown.status, (await errorOf(unknown)).param]).toEqual([404, 'mask_version'])
  })

  test.each([
    ['between lines', lines[0] ?? ''],
    ['within a line', '{"type":"prog'],
  ])('that breaks off %s ends with an error event on a line of its own', async (_where, chunk) => {
    const double = await startNode(`eval-2-${chunk.length}`, [
      { kind: 'stream', chunks: [chunk], ending: 'destroy' },
    ])
    await sendHeartbeat({ id: 'eval-2', url: double.url }, 'eval-broken')
    const response = await admin('POST', '/evaluate', { model: 'eval-broken', text: 'x' })
    const got = (await response.text()).trim().split('\n')
    expect(got).toHaveLength(2)
    expect(got[0]).toBe(chunk.trim())
    expect(JSON.parse(got[1] ?? '')).toMatchObject({ type: 'error', error: { code: 'node_failed' } })
  })

  test('ends with an error event when its node falls silent, and the call is aborted', async () => {
    const goOn = stopClock()
    const chunks = [lines[0] ?? '']
    const double = await startNode('eval-silent-1', [{ kind: 'stream', chunks, ending: 'hang' }])
    await sendHeartbeat({ id: 'eval-silent-1', url: double.url }, 'eval-silent')
    const context = createExecutionContext()
    const app = createApp().route('/impatient', evaluationRoutes(15_000))
    const body = JSON.stringify({ model: 'eval-silent', text: 'x' })
    const request = new Request(`${ORIGIN}/impatient/evaluate`, { method: 'POST', body })
    const response = await app.fetch(request, env, context)
    goOn(15_000)
    const [line, event] = (await response.text()).trim().split('\n')
    expect(line).toBe(lines[0]?.trim())
    expect(JSON.parse(event ?? '')).toMatchObject({ type: 'error', error: { code: 'deadline_exceeded' } })
    await waitOnExecutionContext(context)
    await expect.poll(async () => (await double.calls())[0]?.leftAtMs).not.toBeNull()
  })

  test('that the node rejects fails with the error of the node', async () => {
    const body = JSON.stringify({
      error: {
        message: 'The text has 3 tokens, a window 1024.',
        type: 'x',
        param: 'text',
        code: 'invalid_request',
      },
    })
    const double = await startNode('eval-4', [{ kind: 'answer', status: 400, body }])
    await sendHeartbeat({ id: 'eval-4', url: double.url }, 'eval-refused')
    const response = await admin('POST', '/evaluate', { model: 'eval-refused', text: 'x' })
    expect(response.status).toBe(400)
    expect(await errorOf(response)).toMatchObject({ code: 'invalid_request', param: 'text' })
  })

  test('without a live node is a 503 with Retry-After', async () => {
    await sendHeartbeat({ id: 'eval-3', url: 'http://127.0.0.1:9' }, 'eval-none', { draining: true })
    const response = await admin('POST', '/evaluate', { model: 'eval-none', text: 'x' })
    expect(response.status).toBe(503)
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
  })
})
