import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ImportedMask } from '@copal/shared/wire/admin.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'
import { openModel } from '../../../gpu-node/src/model/open-model.ts'
import { randomHalfMask } from '../models/random-masks.ts'
import { passages } from '../text/passages.ts'
import { activateUnproven } from './activate-mask.ts'
import { rejectedUpdate } from './rejected-update.ts'
import type { Service } from './service.ts'

/** Parts of a request that name existing resources: path, query and body, or a file that is the body. */
export interface NamedResource {
  path?: Record<string, string>
  query?: Record<string, string>
  body?: object
  file?: string
}

const SENTENCE = 'the cat sat on the mat. '

/**
 * Creates one resource of each kind in a new service. Returns, by operation, how a request names its resource.
 *
 * @param dir where files are written
 * @param modelDir the folder of the served model
 */
export async function seedResources(
  service: Service,
  dir: string,
  modelDir: string,
): Promise<Record<string, NamedResource>> {
  const { baseUrl, adminKey } = service
  const admin: Service['admin'] = (method, path, body) => service.admin(method, path, body)
  const model = await openModel(modelDir, { cacheDir: join(dir, 'cache') })
  const { bytes } = randomHalfMask(model, 1)
  const [hash, file] = [await sha256(bytes), join(dir, 'mask.safetensors')]
  await writeFile(file, bytes)
  const imported = await fetch(new URL(`/admin/masks/${hash}?activate=true`, baseUrl), {
    method: 'PUT',
    headers: { authorization: `Bearer ${adminKey}` },
    body: bytes,
  })
  if (!imported.ok) throw new Error(await imported.text())
  // A canary must have been active before.
  await activateUnproven(admin, ((await imported.json()) as ImportedMask).update)
  await admin('POST', '/admin/rollback', { model: model.id, version: 0 })

  // Different ones: of near-duplicates a domain keeps one.
  const texts = passages('speech.calibration.txt', 40)
  for (const domain of ['learnt', 'emptied', 'deleted', 'rebuilt'])
    await admin('POST', `/admin/domains/${domain}/texts`, { texts })
  const update = { domains: ['learnt'], samples: 2, length: 16 }
  const { id: updateId } = await admin<{ id: string }>('POST', '/admin/updates', update)
  await admin('POST', `/admin/updates/${updateId}/cancel`)
  const key = async () => ({
    path: { id: (await admin<{ id: string }>('POST', '/admin/keys', { name: 'a' })).id },
  })
  const node = { path: { id: (await admin<{ data: { id: string }[] }>('GET', '/admin/nodes')).data[0]!.id } }

  const ofModel = { query: { model: model.id } }
  const trial = { body: { model: model.id, mask_version: 1 } }
  const maskFile = { path: { sha256: hash }, query: { model: model.id, dense_weights: '0' } }
  const cache = { path: { tenant: 'default' } }
  return {
    'GET /v1/models/{id}': { path: { id: model.id } },
    'POST /admin/keys': { body: { tenant: 'default', expires_at: null } },
    'POST /admin/keys/{id}/rotate': await key(),
    'PATCH /admin/keys/{id}': await key(),
    'DELETE /admin/keys/{id}': await key(),
    'GET /admin/tenants/{tenant}/cache': cache,
    'DELETE /admin/tenants/{tenant}/cache': cache,
    'PUT /admin/nodes/{id}/drain': node,
    'DELETE /admin/nodes/{id}/drain': node,
    'DELETE /admin/domains/{domain}/samples': { path: { domain: 'emptied' } },
    'DELETE /admin/samples': { query: { request: 'req_of_nobody' } },
    'DELETE /admin/domains/{domain}': { path: { domain: 'deleted' } },
    'PUT /admin/domains/{domain}': { path: { domain: 'learnt' }, body: { owner: null } },
    'POST /admin/domains/{domain}/rebuild': { path: { domain: 'rebuilt' } },
    'GET /admin/domains/{domain}/samples': { path: { domain: 'learnt' } },
    'GET /admin/domains/{domain}/review': { path: { domain: 'learnt' } },
    'GET /admin/domains/{domain}/traffic': { ...ofModel, path: { domain: 'learnt' } },
    'PUT /admin/holdout': { body: { texts: texts.slice(0, 20) } },
    'POST /admin/updates': { body: { ...update, model: model.id } },
    'GET /admin/updates/{id}': { path: { id: updateId } },
    'POST /admin/updates/{id}/force': {
      path: { id: await rejectedUpdate(service) },
      body: { reason: 'a reason of a test' },
    },
    'GET /admin/policy': ofModel,
    'PUT /admin/policy': { body: { model: model.id, gate: { max_regression: 1.08 } } },
    'GET /admin/masks': ofModel,
    'GET /admin/overview': ofModel,
    'GET /admin/triggers': ofModel,
    'GET /admin/masks/{version}/linears': { ...ofModel, path: { version: '1' } },
    'GET /admin/masks/{version}/churn/{other}': { ...ofModel, path: { version: '1', other: '0' } },
    'GET /admin/masks/{version}/file': { ...ofModel, path: { version: '1' } },
    'PUT /admin/masks/{version}/pin': { ...ofModel, path: { version: '1' } },
    'DELETE /admin/masks/{version}/pin': { ...ofModel, path: { version: '1' } },
    'PUT /admin/masks/{sha256}': { ...maskFile, file },
    'POST /admin/masks/{sha256}': { ...maskFile, body: { parts: [hash] } },
    'PUT /admin/masks/{sha256}/parts/{part}': { path: { sha256: hash, part: hash }, file },
    'POST /admin/rollback': { body: { model: model.id, version: 0 } },
    'GET /admin/canary': ofModel,
    'PUT /admin/canary': trial,
    'DELETE /admin/canary': ofModel,
    'GET /admin/shadow': ofModel,
    'PUT /admin/shadow': trial,
    'DELETE /admin/shadow': ofModel,
    'POST /admin/evaluate': {
      body: { model: model.id, mask_version: 0, text: SENTENCE.repeat(8), window_tokens: 16 },
    },
    'GET /admin/drift': ofModel,
    'GET /admin/series': { query: { model: model.id, ...lastHours(20) } },
    'GET /admin/series/gaps': { query: { model: model.id, ...lastHours(20) } },
    'GET /admin/alerts': { query: { model: model.id } },
    'GET /admin/detectors': ofModel,
    'GET /admin/probes': ofModel,
  }
}

/** The query of a time that ends now. */
function lastHours(hours: number): { from: string; to: string } {
  const nowMs = Date.now()
  return { from: new Date(nowMs - hours * 3_600_000).toISOString(), to: new Date(nowMs).toISOString() }
}
