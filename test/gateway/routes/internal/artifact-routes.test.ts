import { env, exports } from 'cloudflare:workers'
import { eq } from 'drizzle-orm'
import { describe, expect, test } from 'vitest'
import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import { sha256, sign, SIGNATURE_HEADER } from '@copal/shared/wire/signature.ts'
import { deleteOldParts } from '../../../../gateway/src/storage/artifacts/mask-parts.ts'
import { freezeDataset } from '../../../../gateway/src/storage/artifacts/datasets.ts'
import { maskFile, signedCall, testDeps } from '../../support/doubles/simulated-node.ts'
import { errorOf, ORIGIN } from '../../support/requests/gateway-requests.ts'
import { TEST_NODE_SECRET } from '../../support/setup/secrets.ts'
import { newNode } from '../../support/doubles/whole-updates.ts'
import { seedMasks } from '../../support/state/seed-masks.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { insertHoldout } from '../../../../gateway/src/storage/db/queries/holdout-queries.ts'
import { listMasks } from '../../../../gateway/src/storage/db/queries/mask-queries.ts'
import { GENERAL_HOLDOUT } from '../../../../gateway/src/storage/db/schema/domains.ts'
import { models } from '../../../../gateway/src/storage/db/schema/masks.ts'
import { batches } from '../../../../gateway/src/storage/db/schema/updates.ts'

const db = openDatabase(env.DB)

const bytesOf = (text: string) => new Uint8Array(new TextEncoder().encode(text))
/** Sends a call signed by node `node-1`. */
const signatureOf = async (request: { method: string; path: string; bodySha256: string }) =>
  sign(
    await nodeSecret(TEST_NODE_SECRET, 'node-1'),
    { nodeId: 'node-1', to: 'gateway', ...request },
    Date.now(),
  )

describe('a mask', () => {
  test('is returned byte for byte under its hash, with headers that allow caching for ever', async () => {
    const bytes = maskFile('round trip')
    const path = `/internal/masks/${await sha256(bytes)}`
    expect((await signedCall('GET', path)).status).toBe(404)
    expect((await signedCall('PUT', path, bytes)).status).toBe(201)
    expect((await signedCall('PUT', path, bytes)).status).toBe(201)
    const response = await signedCall('GET', path)
    expect(new Uint8Array(await response.arrayBuffer())).toEqual(bytes)
    expect(response.headers.get('cache-control')).toContain('immutable')
    expect(response.headers.get('content-length')).toBe(String(bytes.byteLength))
  })

  test('is not sent again to a node that has it', async () => {
    const bytes = maskFile('etag')
    const hash = await sha256(bytes)
    const path = `/internal/masks/${hash}`
    await signedCall('PUT', path, bytes)
    const signature = await signatureOf({ method: 'GET', path, bodySha256: await sha256(new Uint8Array()) })
    const headers = { [SIGNATURE_HEADER]: signature, 'if-none-match': `"${hash}"` }
    const response = await exports.default.fetch(new Request(ORIGIN + path, { headers }))
    expect([response.status, (await response.arrayBuffer()).byteLength]).toEqual([304, 0])
  })

  test.each<[string, (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>, RegExp]>([
    ['no safetensors file', () => bytesOf('hello, I am no mask at all'), /The mask is not usable/],
    ['cut short', (bytes) => bytes.slice(0, -1), /describes \d+ bytes, it has \d+/],
    [
      'longer than its header says',
      (bytes) => new Uint8Array([...bytes, 0]),
      /describes \d+ bytes, it has \d+/,
    ],
    [
      'of another format',
      (bytes) => bytesOf(new TextDecoder('latin1').decode(bytes).replace('copal-mask', 'other-mask')),
      /The mask is not usable/,
    ],
    ['empty', () => new Uint8Array(), /./],
  ])('that is %s is rejected and not stored', async (name, damage, reason) => {
    const bytes = damage(maskFile(name))
    const path = `/internal/masks/${await sha256(bytes)}`
    const response = await signedCall('PUT', path, bytes)
    expect([400, 422]).toContain(response.status)
    expect((await errorOf(response)).message).toMatch(reason)
    expect((await signedCall('GET', path)).status).toBe(404)
  })

  test('whose bytes do not match the hash in the path is rejected and not stored', async () => {
    const path = `/internal/masks/${await sha256(maskFile('announced'))}`
    const bytes = maskFile('sent')
    const signature = await signatureOf({ method: 'PUT', path, bodySha256: path.slice(-64) })
    const response = await exports.default.fetch(
      new Request(ORIGIN + path, {
        method: 'PUT',
        headers: { [SIGNATURE_HEADER]: signature, 'content-length': String(bytes.byteLength) },
        body: bytes,
      }),
    )
    expect([response.status, (await errorOf(response)).code]).toEqual([422, 'mask_invalid'])
    expect(await env.ARTIFACTS.head(path.slice('/internal/'.length))).toBeNull()
  })

  test('larger than the maximum is rejected by its length alone', async () => {
    const path = `/internal/masks/${'0'.repeat(64)}`
    const signature = await signatureOf({ method: 'PUT', path, bodySha256: '0'.repeat(64) })
    const response = await exports.default.fetch(
      new Request(ORIGIN + path, {
        method: 'PUT',
        headers: { [SIGNATURE_HEADER]: signature, 'content-length': String(5 * 1024 ** 3) },
        body: new Uint8Array(16),
      }),
    )
    expect([response.status, (await errorOf(response)).code]).toEqual([413, 'body_too_large'])
  })
})

describe('a mask in parts', () => {
  /** Uploads the parts of a mask file and requests to join them. */
  async function sendParts(bytes: Uint8Array<ArrayBuffer>, order: readonly number[] = [0, 1, 2]) {
    const path = `/internal/masks/${await sha256(bytes)}`
    const third = Math.ceil(bytes.byteLength / 3)
    const parts: string[] = []
    for (const index of [0, 1, 2]) {
      const part = bytes.slice(index * third, (index + 1) * third)
      const hash = await sha256(part)
      expect((await signedCall('PUT', `${path}/parts/${hash}`, part)).status).toBe(201)
      parts.push(hash)
    }
    return { path, response: await signedCall('POST', path, list(order.map((index) => parts[index] ?? ''))) }
  }
  const list = (parts: readonly string[]) => bytesOf(JSON.stringify({ parts }))
  const stored = async (path: string) =>
    (await env.ARTIFACTS.list({ prefix: `mask-parts/${path.slice(-64)}/` })).objects.length

  test('is joined to the file, and its parts are deleted', async () => {
    const bytes = maskFile('parts')
    const { path, response } = await sendParts(bytes)
    expect(response.status).toBe(201)
    expect(new Uint8Array(await (await signedCall('GET', path)).arrayBuffer())).toEqual(bytes)
    expect(await stored(path)).toBe(0)
    expect((await sendParts(bytes)).response.status).toBe(201)
    expect(await stored(path)).toBe(0)
  })

  test('joined in the wrong order is rejected and not stored, and can still be joined in the right order', async () => {
    const bytes = maskFile('order')
    const { path, response } = await sendParts(bytes, [1, 0, 2])
    expect([response.status, (await errorOf(response)).code]).toEqual([422, 'mask_invalid'])
    expect((await signedCall('GET', path)).status).toBe(404)
    expect((await sendParts(bytes)).response.status).toBe(201)
  })

  test('with a missing part is rejected with the hash of that part', async () => {
    const path = `/internal/masks/${await sha256(maskFile('missing'))}`
    const absent = 'f'.repeat(64)
    const response = await signedCall('POST', path, list([absent]))
    expect(response.status).toBe(404)
    expect((await errorOf(response)).message).toContain(`Part ${absent}`)
  })

  test('with a part that does not match its hash is rejected', async () => {
    const path = `/internal/masks/${'0'.repeat(64)}/parts/${await sha256(bytesOf('announced'))}`
    const bytes = bytesOf('delivered')
    const signature = await signatureOf({ method: 'PUT', path, bodySha256: path.slice(-64) })
    const headers = { [SIGNATURE_HEADER]: signature, 'content-length': String(bytes.byteLength) }
    const response = await exports.default.fetch(
      new Request(ORIGIN + path, { method: 'PUT', headers, body: bytes }),
    )
    expect([response.status, (await errorOf(response)).code]).toEqual([422, 'mask_invalid'])
    expect(await stored(`/${'0'.repeat(64)}`)).toBe(0)
  })

  test('that is not joined is deleted after a day', async () => {
    const part = bytesOf('abandoned')
    const path = `/internal/masks/${'1'.repeat(64)}`
    await signedCall('PUT', `${path}/parts/${await sha256(part)}`, part)
    await deleteOldParts({ artifacts: env.ARTIFACTS, nowMs: Date.now })
    expect(await stored(path)).toBe(1)
    await deleteOldParts({ artifacts: env.ARTIFACTS, nowMs: () => Date.now() + 25 * 60 * 60 * 1000 })
    expect(await stored(path)).toBe(0)
  })

  test('that is too large or has no valid signature is rejected', async () => {
    const path = `/internal/masks/${'2'.repeat(64)}`
    const part = bytesOf('part')
    const hash = await sha256(part)
    const unsigned = [
      await signedCall('PUT', `${path}/parts/${hash}`, part, 'another secret of the network'),
      await signedCall('POST', path, list([hash]), 'another secret of the network'),
    ]
    expect(unsigned.map(({ status }) => status)).toEqual([401, 401])
    const signature = await signatureOf({ method: 'PUT', path: `${path}/parts/${hash}`, bodySha256: hash })
    const headers = { [SIGNATURE_HEADER]: signature, 'content-length': String(100 * 1024 ** 2) }
    const response = await exports.default.fetch(
      new Request(`${ORIGIN}${path}/parts/${hash}`, { method: 'PUT', headers, body: part }),
    )
    expect([response.status, (await errorOf(response)).code]).toEqual([413, 'body_too_large'])
    expect(await stored(path)).toBe(0)
  })
})

test('a dataset is returned as it was frozen', async () => {
  const dataset = await freezeDataset(testDeps(), 'frozen', [
    { text: 'one', sources: [] },
    { text: 'two "quoted"\nlines', sources: [] },
  ])
  const response = await signedCall('GET', `/internal/datasets/${dataset.sha256}`)
  const bytes = new Uint8Array(await response.arrayBuffer())
  expect(await sha256(bytes)).toBe(dataset.sha256)
  expect(new TextDecoder().decode(bytes)).toBe(
    '{"domain":"frozen","sources":[],"text":"one"}\n{"domain":"frozen","sources":[],"text":"two \\"quoted\\"\\nlines"}\n',
  )
  expect(dataset).toMatchObject({ domain: 'frozen', samples: 2 })
})

test('a file that R2 has lost is named with its domain or model, and with what an operator can do', async () => {
  const freeze = (domain: string, text: string) => freezeDataset(testDeps(), domain, [{ text, sources: [] }])
  const [frozen, counted, heldOut, general] = [
    await freeze('legal', 'frozen'),
    await freeze('legal', 'counted'),
    await freeze('legal', 'held out'),
    await freeze(GENERAL_HOLDOUT, 'general'),
  ]
  await ensureDomains(db, ['legal'], 1)
  await db.insert(batches).values({
    model: 'lost',
    datasetSha256: counted.sha256,
    updateId: 'old',
    domain: 'legal',
    state: 'counted',
    tokens: 1,
    createdAt: 1,
  })
  for (const { sha256: hash, domain } of [heldOut, general])
    await insertHoldout(db, { domain, version: 1, sha256: hash, samples: 1, characters: 8, createdAt: 1 })
  await newNode('lost')
  await seedMasks('lost', [3, 4, 5, 6, 7])
  const trial = { share: 0.1, beside: 3, sinceMs: 1 }
  await db
    .update(models)
    .set({
      domainVersions: new Map([['legal', 4]]),
      canary: { ...trial, version: 5, updateId: 'upd_5' },
      shadow: { ...trial, version: 6 },
    })
    .where(eq(models.id, 'lost'))
  const masks = await listMasks(db, 'lost', { limit: 9 })
  const messageOf = async (path: string) => {
    await env.ARTIFACTS.delete(path)
    const response = await signedCall('GET', `/internal/${path}`)
    const { code, message } = await errorOf(response)
    expect([response.status, code]).toEqual([404, 'not_found'])
    return message
  }
  const ofDataset = ({ sha256: hash }: { sha256: string }) => messageOf(`datasets/${hash}`)
  expect(await ofDataset(frozen)).toMatch(/domain 'legal'.*frozen.*missing in R2.*Start the update again/)
  expect(await ofDataset(counted)).toMatch(/domain 'legal'.*missing in R2.*'npx copal domains rebuild legal'/)
  expect(await ofDataset(heldOut)).toMatch(/Held-out.*domain 'legal'.*'npx copal domains delete legal'/)
  expect(await ofDataset(general)).toMatch(/general holdout.*'npx copal holdout set FILE'/)
  for (const [version, remedy] of [
    [3, "make another mask active: 'npx copal rollback'"],
    [4, "have the shared mask serve domain 'legal' again: 'npx copal domains mask legal --remove'"],
    [5, "end its canary with the update: 'npx copal cancel upd_5'"],
    [6, "end its shadow: 'npx copal shadow --end'"],
    [7, 'start its update again'],
  ] as const) {
    const message = await messageOf(`masks/${masks.find((mask) => mask.version === version)?.sha256}`)
    expect(message).toContain(`m${version} of 'lost'`)
    expect(message.endsWith(`'npx copal masks import FILE'. If there is no copy, ${remedy}.`)).toBe(true)
  }
})

test('artifacts cannot be read or written without a valid signature', async () => {
  const bytes = maskFile('unsigned')
  const hash = await sha256(bytes)
  for (const response of [
    await signedCall('GET', `/internal/masks/${hash}`, new Uint8Array(), 'another secret of the network'),
    await signedCall('PUT', `/internal/masks/${hash}`, bytes, 'another secret of the network'),
    await signedCall('GET', `/internal/datasets/${hash}`, new Uint8Array(), 'another secret of the network'),
  ]) {
    expect([response.status, (await errorOf(response)).code]).toEqual([401, 'invalid_signature'])
  }
  expect(await env.ARTIFACTS.head(`masks/${hash}`)).toBeNull()
})

test('an invalid hash, an unknown hash and a wrong method each get their own error', async () => {
  expect((await signedCall('GET', '/internal/masks/../secrets')).status).toBe(404)
  expect((await signedCall('GET', '/internal/masks/ABC')).status).toBe(400)
  expect((await signedCall('GET', `/internal/datasets/${'0'.repeat(64)}`)).status).toBe(404)
  expect((await signedCall('PUT', `/internal/datasets/${'0'.repeat(64)}`, new Uint8Array(1))).status).toBe(
    405,
  )
})
