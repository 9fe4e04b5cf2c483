import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { insertReceipts } from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import type { AdmissionRequest } from '../../../../gateway/src/contracts/fleet-object.ts'
import { sendHeartbeat, get, receiptOf, signedPost } from '../../support/requests/gateway-requests.ts'

test('metrics report requests, tokens, drift and nodes in the Prometheus text format', async () => {
  await sendHeartbeat({ id: 'n1', url: 'http://127.0.0.1:9' }, 'tiny', {
    load: { running: 2, waiting: 1, kvTokensUsed: 10, kvTokensTotal: 4096 },
  })
  const drift = { tokens: 4, nllMasked: 10, nllDense: 8 }
  await signedPost('/internal/nodes/receipts', {
    nodeId: 'n1',
    receipts: [
      receiptOf('metrics-1', { domain: 'legal', maskVersion: 2, drift }),
      receiptOf('metrics-2', {
        domain: 'legal',
        maskVersion: 2,
        drift: { tokens: 4, nllMasked: 12, nllDense: 8 },
      }),
      receiptOf('metrics-3', { domain: 'legal', maskVersion: 2, finishReason: 'cancelled' }),
      receiptOf('metrics-4', { domain: 'legal', maskVersion: 2, finishReason: 'refused' }),
      // Older nodes, which do not know `refused`, report `error` instead.
      receiptOf('metrics-5', { domain: 'legal', maskVersion: 2, finishReason: 'error' }),
    ],
  })
  const response = await get('/metrics')
  expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8')
  const text = await response.text()
  for (const line of [
    '# TYPE copal_requests_total counter',
    'copal_requests_total{model="tiny",domain="legal",mask_version="2",outcome="stop"} 2',
    'copal_requests_total{model="tiny",domain="legal",mask_version="2",outcome="cancelled"} 1',
    'copal_requests_total{model="tiny",domain="legal",mask_version="2",outcome="refused"} 1',
    'copal_requests_total{model="tiny",domain="legal",mask_version="2",outcome="error"} 1',
    'copal_prompt_tokens_total{model="tiny",domain="legal",mask_version="2",outcome="stop"} 20',
    'copal_completion_tokens_total{model="tiny",domain="legal",mask_version="2",outcome="stop"} 10',
    'copal_drift_gap_nats{model="tiny",domain="legal",mask_version="2"} 0.75',
    'copal_drift_tokens_total{model="tiny",domain="legal",mask_version="2"} 8',
    'copal_model_active_version{model="tiny"} 0',
    'copal_nodes_alive{model="tiny"} 1',
    'copal_node_requests_running{node="n1",model="tiny"} 2',
    'copal_node_requests_waiting{node="n1",model="tiny"} 1',
  ]) {
    expect(text.split('\n')).toContain(line)
  }
  for (const line of text.trimEnd().split('\n')) {
    expect(line).toMatch(/^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{([a-z_]+="[^"]*",?)+\})? -?[0-9.e+-]+)$/)
  }
})

test('estimates have metrics of their own, so that no counter decreases when the receipt arrives', async () => {
  const model = 'metrics-estimated'
  const db = openDatabase(env.DB)
  const linesOf = async () => {
    const lines = (await (await get('/metrics')).text()).split('\n')
    return lines.filter((line) => line.includes(`"${model}"`) && !line.includes('drift'))
  }
  const estimate = receiptOf('metrics-estimate', { model, finishReason: 'error', completionTokens: 0 })
  await insertReceipts(db, 'n1', [estimate], 'estimate', 1)
  expect(await linesOf()).toEqual([
    `copal_requests_estimated{model="${model}",domain="default",mask_version="0"} 1`,
    `copal_tokens_estimated{model="${model}",domain="default",mask_version="0"} ${estimate.promptTokens}`,
  ])
  await insertReceipts(db, 'n1', [receiptOf('metrics-estimate', { model })], 'node', 2)
  const after = await linesOf()
  expect(after).toContain(
    `copal_requests_total{model="${model}",domain="default",mask_version="0",outcome="stop"} 1`,
  )
  expect(after.join()).not.toMatch(/estimated\{|outcome="error"/)
})

test('metrics report which requests got no node and why', async () => {
  const refusing = 'refusing-model'
  await sendHeartbeat({ id: 'refusing-1', url: 'http://127.0.0.1:9' }, refusing, {
    load: { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 4096, slots: 1 },
  })
  const fleet = env.FLEET.get(env.FLEET.idFromName('fleet'))
  const asked = (requestId: string, changes: Partial<AdmissionRequest> = {}): AdmissionRequest => ({
    requestId,
    model: refusing,
    promptTokens: 1,
    exclude: [],
    domain: 'default',
    tenant: 'refused-tenant',
    account: 'key-refused',
    ...changes,
  })
  expect(await fleet.acquire(asked('absent-1', { version: 99 }))).toMatchObject({ ok: false })
  for (const id of ['over-1', 'over-2']) {
    const limits = {
      requestId: id,
      accounts: [{ kind: 'key' as const, name: 'key-refused', limits: { requestsPerMinute: 1 } }],
      maxTokens: 8,
    }
    await fleet.acquire(asked(id, { limits }))
  }
  const left = fleet.acquire(asked('left-1', { exclude: ['refusing-1'] }))
  await fleet.abandon('left-1')
  expect(await left).toMatchObject({ ok: false })
  const lines = (await (await get('/metrics')).text()).split('\n')
  const refused = lines.filter((line) => line.includes(refusing) && line.includes('refused_total'))
  expect(refused).toEqual([
    `copal_requests_refused_total{model="${refusing}",reason="absent"} 1`,
    `copal_requests_refused_total{model="${refusing}",reason="requests"} 1`,
  ])
})
