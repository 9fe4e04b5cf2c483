import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import { encodeMask, type MaskMeta } from '@copal/shared/mask/mask-codec.ts'
import type { DriftReport, ImportedMask, MaskEntry } from '@copal/shared/wire/admin.ts'
import { importMask } from '@copal/shared/wire/mask-import.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'
import { importMaskFile } from '../../../../gateway/src/adaptation/masks/import-mask-file.ts'
import { storeMaskFile } from '../../../../gateway/src/storage/artifacts/mask-files.ts'
import {
  admin,
  adminJson,
  getUpdate,
  importTexts,
  signedCall,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { fetchDocumented } from '../../support/requests/documented.ts'
import { sendHeartbeat, createKey, errorOf, ORIGIN } from '../../support/requests/gateway-requests.ts'
import { TEST_ADMIN_KEY } from '../../support/setup/secrets.ts'

/** Creates a weights file of one linear `[2, 8]`; each `seed` gives another file. */
function weightsFile(seed: string, meta: Partial<MaskMeta> = {}): Uint8Array<ArrayBuffer> {
  return encodeMask({
    meta: {
      method: 'continual-sparsegpt',
      pattern: '0.5',
      scope: 'row',
      patterns: {},
      domains: ['legal', 'code'],
      parent: null,
      created: `2026-01-01T00:00:00.000Z ${seed}`,
      baseSha256: 'a'.repeat(64),
      ...meta,
    },
    linears: new Map([
      [
        'w',
        {
          rows: 2,
          cols: 8,
          bits: Uint8Array.of(0x0f, 0xf0),
          values: Uint16Array.of(0x3f80, 0x3f81, 0x3f82, 0x3f83, 0xbf80, 0xbf81, 0xbf82, 0xbf83),
        },
      ],
    ]),
  })
}

async function put(
  bytes: Uint8Array<ArrayBuffer>,
  query = '',
  { token = TEST_ADMIN_KEY, hash }: { token?: string; hash?: string } = {},
): Promise<Response> {
  return fetchDocumented(
    new Request(`${ORIGIN}/admin/masks/${hash ?? (await sha256(bytes))}${query}`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${token}`, 'content-length': String(bytes.byteLength) },
      body: bytes,
    }),
  )
}

/** Registers the model by a heartbeat, and returns the masks that the node should serve. */
const known = (model: string) => sendHeartbeat({ id: `node-${model}`, url: 'http://127.0.0.1:1' }, model)

const fileKey = async (bytes: Uint8Array<ArrayBuffer>) => `masks/${await sha256(bytes)}`

test('a weights file that was uploaded in parts becomes a mask version', async () => {
  await known('import-parts')
  const bytes = weightsFile('parts')
  const path = `${ORIGIN}/admin/masks/${await sha256(bytes)}`
  const call = (method: string, url: string, body: Uint8Array<ArrayBuffer> | string) => {
    const headers = { authorization: `Bearer ${TEST_ADMIN_KEY}`, 'content-length': String(body.length) }
    return fetchDocumented(new Request(url, { method, headers, body }))
  }
  const parts: string[] = []
  for (const part of [bytes.slice(0, 100), bytes.slice(100)]) {
    parts.push(await sha256(part))
    expect((await call('PUT', `${path}/parts/${parts.at(-1)}`, part)).status).toBe(201)
  }
  const response = await call('POST', `${path}?model=import-parts`, JSON.stringify({ parts }))
  expect(response.status).toBe(201)
  expect(await response.json()).toMatchObject({ model: 'import-parts', version: 1, bytes: bytes.byteLength })
  const wrong = await call('PUT', `${path}/parts/x`, bytes)
  expect([wrong.status, (await errorOf(wrong)).param]).toEqual([400, 'part'])
  const none = await call('POST', `${path}?model=import-parts`, '{"parts":[]}')
  expect([none.status, (await errorOf(none)).param]).toEqual([400, 'parts'])
})

test('an imported weights file is an inactive version, and is returned byte for byte', async () => {
  await known('import-a')
  const bytes = weightsFile('a')
  const response = await put(bytes, '?model=import-a')
  expect(response.status).toBe(201)
  const entry = await response.json<MaskEntry>()
  expect(entry).toMatchObject({
    model: 'import-a',
    version: 1,
    sha256: await sha256(bytes),
    method: 'continual-sparsegpt',
    pattern: '0.5',
    sparsity: 0.5,
    churn: null,
    domains: ['code', 'legal'],
    bytes: bytes.byteLength,
    active: false,
    promoted_at: null,
  })
  const file = await admin('GET', '/masks/m1/file?model=import-a')
  expect(new Uint8Array(await file.arrayBuffer())).toEqual(bytes)
  const forNodes = await signedCall('GET', `/internal/masks/${entry.sha256}`)
  expect(new Uint8Array(await forNodes.arrayBuffer())).toEqual(bytes)

  // A second import gives the same version. It was never active, so it cannot be rolled back to.
  expect((await (await put(bytes, '?model=import-a')).json<MaskEntry>()).version).toBe(1)
  const refused = await admin('POST', '/rollback', { model: 'import-a', version: 1 })
  expect([refused.status, (await errorOf(refused)).message]).toEqual([
    409,
    expect.stringContaining('imported but never active'),
  ])
})

/** Imports a file with `activate`, and lets a node work until the update has ended. */
async function activate(node: SimulatedNode, bytes: Uint8Array<ArrayBuffer>, model: string) {
  const entry = await (await put(bytes, `?model=${model}&activate=true`)).json<ImportedMask>()
  expect(entry).toMatchObject({ active: false, promoted_at: null, update: expect.any(String) as string })
  return { entry, end: await node.finish(entry.update ?? '') }
}

describe('an imported file that is activated', () => {
  test('goes through the gate, is then served by nodes, and can be rolled back and reactivated', async () => {
    const model = 'import-b'
    const node = new SimulatedNode('import-b-1', model)
    expect((await node.beat()).desired).toEqual({ active: null, previous: null })
    await importTexts('import-b-text')
    await node.finish((await startUpdate(model, ['import-b-text'])).id)
    const one = weightsFile('b1')
    const two = weightsFile('b2', { parent: await sha256(one) })
    const first = await activate(node, one, model)
    expect(first.end).toMatchObject({
      state: 'promoted',
      mask_version: 2,
      parent_version: 1,
      method: 'continual-sparsegpt',
      domains: ['code', 'legal'],
    })
    expect(first.end.decisions?.[0]).toMatchObject({ kind: 'gate', verdict: 'passed', mask_version: 2 })
    expect(first.end.decisions?.[0]?.figures.map(({ name }) => name)).toContain('perplexity / parent')
    const second = await activate(node, two, model)
    expect(second.end).toMatchObject({ state: 'promoted', mask_version: 3 })
    expect(second.entry).toMatchObject({ version: 3, parent_version: 2 })
    const { desired } = await node.beat()
    expect(desired).toMatchObject({
      active: { version: 3, sha256: await sha256(two) },
      previous: { version: 2, sha256: await sha256(one) },
    })
    // It was active, so it needs no proof: activating the active version again changes nothing, nor the previous version.
    const again = await (await put(two, `?model=${model}&activate=true`)).json<ImportedMask>()
    expect(again).toMatchObject({ active: true })
    expect(again).not.toHaveProperty('update')
    expect((await node.beat()).desired).toEqual(desired)

    expect(await adminJson('POST', '/rollback', { model })).toEqual({ active_version: 2 })
    const refused = await put(two, `?model=${model}&activate=true`)
    expect([refused.status, (await errorOf(refused)).message]).toEqual([
      409,
      expect.stringMatching(/m3 .*was rolled back.*'POST \/admin\/rollback': 3 is this mask/),
    ])
    expect((await node.beat()).desired.active).toMatchObject({ version: 2 })
    expect(await adminJson('POST', '/rollback', { model, version: 3 })).toEqual({ active_version: 3 })
    // m2 is not rolled back, because m3 descends from it.
    await adminJson('POST', '/rollback', { model, version: 0 })
    await adminJson('POST', '/rollback', { model, version: 3 })
    const back = await (await put(one, `?model=${model}&activate=true`)).json<ImportedMask>()
    expect(back).toMatchObject({ version: 2, active: true })
    await adminJson('POST', '/rollback', { model, version: 3 })
    const { r } = await adminJson<DriftReport>('GET', `/drift?model=${model}`)
    expect(r.stages.map(({ mask_version: version }) => version)).toEqual([0, 1, 2, 3])
  })

  test('is not served if the gate rejects it, but can be forced', async () => {
    const model = 'import-f'
    const bad = weightsFile('f1')
    const hash = await sha256(bad)
    const node = new SimulatedNode('import-f-1', model, ({ mask }) =>
      mask === null ? 2 : mask === hash ? 2.4 : 2.3,
    )
    await node.beat()
    await importTexts('import-f-text')
    await node.finish((await startUpdate(model, ['import-f-text'])).id)
    const { entry, end } = await activate(node, bad, model)
    expect(end).toMatchObject({ state: 'failed', candidate: 1, error: { code: 'gate_failed' } })
    expect((await node.beat()).desired.active).toMatchObject({ version: 1 })
    await adminJson('POST', `/updates/${entry.update}/force`, { reason: 'Measured elsewhere on better text' })
    expect(await node.finish(entry.update ?? '')).toMatchObject({ state: 'promoted', mask_version: 2 })
    expect((await node.beat()).desired.active).toMatchObject({ version: 2, sha256: hash })
  })

  test('is not proven without held-out text, which an operator may override', async () => {
    const node = new SimulatedNode('import-g-1', 'import-g')
    await node.beat()
    for (const { name } of (await adminJson<{ data: { name: string }[] }>('GET', '/domains')).data)
      await adminJson('DELETE', `/domains/${name}`)
    const { entry, end } = await activate(node, weightsFile('g1'), 'import-g')
    expect(end.error?.message).toContain('There is no held-out text to compare it on.')
    await adminJson('POST', `/updates/${entry.update}/force`, { reason: 'The only mask that there is' })
    expect(await node.finish(entry.update ?? '')).toMatchObject({ state: 'promoted' })
  })

  test('waits for no other update: the file is registered, and the answer says what to do', async () => {
    const node = new SimulatedNode('import-h-1', 'import-h')
    await node.beat()
    await importTexts('import-h-text')
    const { id } = await startUpdate('import-h', ['import-h-text'])
    const bytes = weightsFile('h1')
    const busy = await put(bytes, '?model=import-h&activate=true')
    expect([busy.status, (await errorOf(busy)).message]).toEqual([
      409,
      expect.stringMatching(new RegExp(`registered as m1 .*'${id}' is .* Import it again`)),
    ])
    await adminJson('POST', `/updates/${id}/cancel`)
    const path = '?model=import-h&activate=true'
    const [first, second] = [await put(bytes, path), await put(bytes, path)]
    const [one, two] = [await first.json<ImportedMask>(), await second.json<ImportedMask>()]
    expect(one.update).toMatch(/^upd_/)
    expect(two.update).toBe(one.update)
    expect(await getUpdate(one.update ?? '')).toMatchObject({ state: 'evaluating', mask_version: 1 })
  })
})

test('weights that stay dense count in the sparsity of an imported file', async () => {
  await known('import-c')
  const bytes = weightsFile('c', { patterns: { v: 'dense' } })
  const entry = await (await put(bytes, '?model=import-c&dense_weights=48')).json<MaskEntry>()
  expect(entry.sparsity).toBe(8 / 64)
})

describe('an import is rejected and not stored for', () => {
  test.each<[string, Uint8Array<ArrayBuffer>, string, number, RegExp]>([
    [
      'a file for other weights',
      weightsFile('d', { baseSha256: 'b'.repeat(64) }),
      '',
      422,
      /made for other dense weights/,
    ],
    ['no mask file', new Uint8Array(100), '', 422, /The mask is not usable/],
    ['a file cut short', weightsFile('e').slice(0, -1), '', 422, /describes \d+ bytes/],
    [
      'an invalid method name',
      weightsFile('f', { method: '\u001b[2J' }),
      '',
      422,
      /'method' must be 1 to 64 letters/,
    ],
    ['a domain that is no name', weightsFile('g', { domains: ['../x'] }), '', 422, /'domains' has "\.\.\/x"/],
    [
      'too many domains',
      weightsFile('h', { domains: Array.from({ length: 257 }, (_, i) => `d${i}`) }),
      '',
      422,
      /257 domains/,
    ],
    ['a pattern that does not fit', weightsFile('i', { pattern: '3:9' }), '', 422, /multiple of 9/],
    ['more weights than the model has', weightsFile('j'), '&dense_weights=999999999999', 422, /parameters/],
    ['a count that is none', weightsFile('k'), '&dense_weights=-1', 400, /dense_weights/],
    ['an activation that is no yes or no', weightsFile('l'), '&activate=maybe', 400, /activate/],
  ])('%s', async (_, bytes, query, status, message) => {
    await known('import-d')
    const response = await put(bytes, `?model=import-d${query}`)
    expect([response.status, (await errorOf(response)).message]).toEqual([
      status,
      expect.stringMatching(message),
    ])
    expect((await adminJson<{ data: MaskEntry[] }>('GET', '/masks?model=import-d')).data).toEqual([])
  })

  test('a file that does not match its hash', async () => {
    await known('import-d')
    const response = await put(weightsFile('m'), '?model=import-d', { hash: await sha256(weightsFile('n')) })
    expect([response.status, (await errorOf(response)).code]).toEqual([422, 'mask_invalid'])
    expect(await env.ARTIFACTS.head(await fileKey(weightsFile('n')))).toBeNull()
  })

  test('a caller without the admin key', async () => {
    const { key } = await createKey()
    expect((await put(weightsFile('o'), '', { token: key })).status).toBe(403)
    expect((await put(weightsFile('o'), '', { token: 'wrong' })).status).toBe(401)
    expect(await env.ARTIFACTS.head(await fileKey(weightsFile('o')))).toBeNull()
  })
})

test.each(['before', 'meanwhile'])(
  'a rejected import does not delete a file that a node has stored %s',
  async (when) => {
    await known('import-e')
    const bytes = weightsFile(when, { baseSha256: 'b'.repeat(64) })
    const hash = await sha256(bytes)
    const send = () => signedCall('PUT', `/internal/masks/${hash}`, bytes)
    if (when === 'before') await send()
    const store = async () => {
      const { headers, body } = new Response(bytes, { headers: { 'content-length': String(bytes.length) } })
      await storeMaskFile(testDeps(), hash, { headers, body })
      if (when === 'meanwhile') await send()
    }
    const imported = importMaskFile(testDeps(), hash, importMask.parse({ model: 'import-e' }), {
      store,
      actor: 'operator',
    })
    await expect(imported).rejects.toMatchObject({ code: 'mask_base_mismatch' })
    expect(await env.ARTIFACTS.head(await fileKey(bytes))).not.toBeNull()
  },
)
