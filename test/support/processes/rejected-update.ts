import { encodeMask } from '@copal/shared/mask/mask-codec.ts'
import type { EvaluateJob, JobReport } from '@copal/shared/wire/adaptation-jobs.ts'
import type { ImportedMask, UpdateEntry } from '@copal/shared/wire/admin.ts'
import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'
import { createGatewayClient } from '../../../gpu-node/src/serving/control/gateway-client.ts'
import { openHome } from '../../../infra/local/service/home.ts'
import { heartbeatOf } from '../doubles/heartbeat.ts'
import { until, type Service } from './service.ts'

const MODEL = 'rejected'
const NODE = { id: 'rejected', url: 'http://127.0.0.1:9' }

/**
 * Creates an update that the gate has rejected, of a model of its own: a double of a node reports that its imported mask is
 * far worse than the dense model, and leaves.
 *
 * @returns the id of the update
 */
export async function rejectedUpdate(service: Service): Promise<string> {
  const { baseUrl, adminKey } = service
  const secret = await nodeSecret(openHome(service.home).secrets.nodeSecret, NODE.id)
  const client = createGatewayClient({ baseUrl, nodeId: NODE.id, secret })
  await client.heartbeat(heartbeatOf(NODE, MODEL))
  const meta = {
    method: 'magnitude',
    pattern: '0.5',
    scope: 'row',
    patterns: {},
    domains: [],
    parent: null,
  } as const
  const file = encodeMask({
    meta: { ...meta, created: '2026-01-01T00:00:00Z', baseSha256: 'a'.repeat(64) },
    linears: new Map([['w', { rows: 2, cols: 8, bits: new Uint8Array([0x0f, 0xf0]) }]]),
  })
  const imported = await fetch(
    new URL(`/admin/masks/${await sha256(file)}?model=${MODEL}&activate=true`, baseUrl),
    { method: 'PUT', headers: { authorization: `Bearer ${adminKey}` }, body: file },
  )
  const { update: id = '' } = (await imported.json()) as ImportedMask
  let jobs: JobReport[] = []
  return until('the update to be rejected', async () => {
    const response = await client.heartbeat(heartbeatOf(NODE, MODEL, { jobs }))
    jobs = response.jobs.flatMap((job) => (job.kind === 'evaluate' ? [evaluated(job)] : []))
    const update = await service.admin<UpdateEntry>('GET', `/admin/updates/${id}`)
    if (update.error?.code === 'gate_failed') {
      await client.heartbeat(heartbeatOf(NODE, MODEL, { leaving: true }))
      return id
    }
    return undefined
  })
}

function evaluated({ id, mask, holdouts, checkGeneration }: EvaluateJob): JobReport {
  const nllMean = mask === null ? 2 : 4
  const domains = holdouts.map(({ domain, sha256: holdoutSha256 }) => ({
    domain,
    holdoutSha256,
    tokens: 200,
    nllMean,
    perplexity: Math.exp(nllMean),
    windowNll: [nllMean, nllMean],
    windowTokens: [100, 100],
  }))
  const generation = { finite: true, tokens: 100, repetition: 0, entropy: 2 }
  const result = { kind: 'evaluate' as const, domains, ...(checkGeneration ? { generation } : {}) }
  return { id, state: 'done', progress: 1, message: '', result }
}
