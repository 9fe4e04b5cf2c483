import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { encodeMask, type Mask, type MaskLinear } from '@copal/shared/mask/mask-codec.ts'
import type { MaskChurn, MaskLinears } from '@copal/shared/wire/admin-mask-linears.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { masks } from '../../../../gateway/src/storage/db/schema/masks.ts'
import { admin, adminJson } from '../../support/doubles/simulated-node.ts'
import { errorOf, sendHeartbeat } from '../../support/requests/gateway-requests.ts'
import { maskChurn as churnOf } from '../../../support/models/mask-figures.ts'

const db = openDatabase(env.DB)
const META = {
  method: 'continual-wanda',
  pattern: '0.5',
  scope: 'row',
  domains: [],
  parent: null,
  created: '2026-01-01T00:00:00.000Z',
  baseSha256: 'a'.repeat(64),
} as const

/** Returns a linear of `[rows, 16]` that keeps the first eight or, where `flipped`, the last eight columns of each row. */
const linear = (rows: number, flipped: (row: number) => boolean): MaskLinear => ({
  rows,
  cols: 16,
  bits: Uint8Array.from({ length: rows * 2 }, (_, i) => ((i % 2 === 0) === flipped(i >> 1) ? 0x00 : 0xff)),
})

async function register(version: number, mask: Mask): Promise<void> {
  const bytes = encodeMask(mask)
  const hash = await sha256(bytes)
  await env.ARTIFACTS.put(`masks/${hash}`, bytes)
  await db.insert(masks).values({
    model: 'pictured',
    version,
    sha256: hash,
    updateId: `pictured-${version}`,
    method: META.method,
    pattern: META.pattern,
    scope: META.scope,
    sparsity: 0.5,
    domains: [],
    bytes: bytes.byteLength,
    createdAt: 1,
  })
}

test('a mask is shown linear by linear, and the difference of two as a decoded comparison finds it', async () => {
  await sendHeartbeat({ id: 'pictured-1', url: 'http://127.0.0.1:1' }, 'pictured')
  const [q, down, gate] = [0, 1].flatMap((layer) => [
    `model.layers.${layer}.self_attn.q_proj.weight`,
    `model.layers.${layer}.mlp.down_proj.weight`,
    `model.layers.${layer}.mlp.gate_proj.weight`,
  ]) as [string, string, string]
  const first: Mask = {
    meta: { ...META, patterns: {} },
    linears: new Map([
      [q, linear(4, () => false)],
      [down, linear(2, () => false)],
      [gate, linear(6, () => false)],
    ]),
  }
  // It leaves one linear dense, and differs in a quarter of another.
  const second: Mask = {
    meta: { ...META, patterns: { [down]: 'dense' } },
    linears: new Map([
      [q, linear(4, (row) => row === 0)],
      [gate, linear(6, () => false)],
    ]),
  }
  await register(1, first)
  await register(2, second)
  expect(await adminJson<MaskLinears>('GET', '/masks/1/linears?model=pictured')).toEqual({
    model: 'pictured',
    version: 1,
    linears: [
      { layer: 0, kind: 'down_proj', rows: 2, columns: 16, sparsity: 0.5 },
      { layer: 0, kind: 'gate_proj', rows: 6, columns: 16, sparsity: 0.5 },
      { layer: 0, kind: 'q_proj', rows: 4, columns: 16, sparsity: 0.5 },
    ],
  })
  const compared = await adminJson<MaskChurn>('GET', '/masks/1/churn/m2?model=pictured')
  expect(compared).toEqual({
    model: 'pictured',
    version: 1,
    other: 2,
    churn: churnOf(first, second),
    linears: [
      { layer: 0, kind: 'down_proj', churn: 0.5 },
      { layer: 0, kind: 'gate_proj', churn: 0 },
      { layer: 0, kind: 'q_proj', churn: 0.25 },
    ],
  })
  expect(await adminJson('GET', '/masks/2/churn/1?model=pictured')).toMatchObject({ churn: compared.churn })
  expect(await adminJson('GET', '/masks/0/churn/2?model=pictured')).toMatchObject({ churn: 0.5 })
  for (const path of ['/masks/3/linears', '/masks/x/linears', '/masks/1/churn/3']) {
    const response = await admin('GET', `${path}?model=pictured`)
    expect([response.status, (await errorOf(response)).code]).toEqual([404, 'not_found'])
  }
})

test('bits that lie far apart in a file, as beside values, are read one by one', async () => {
  await sendHeartbeat({ id: 'pictured-1', url: 'http://127.0.0.1:1' }, 'pictured')
  // More than 64 KiB of values lie between the bits of two linears.
  const rows = 5_000
  const withValues = (flipped: (row: number) => boolean): Mask => ({
    meta: { ...META, patterns: {} },
    linears: new Map(
      ['model.layers.0.a.weight', 'model.layers.1.a.weight'].map((name) => [
        name,
        { ...linear(rows, flipped), values: new Uint16Array(rows * 8).fill(0x3f80) },
      ]),
    ),
  })
  const [first, second] = [withValues(() => false), withValues((row) => row % 4 === 0)]
  await register(11, first)
  await register(12, second)
  expect(await adminJson('GET', '/masks/11/churn/12?model=pictured')).toMatchObject({
    churn: churnOf(first, second),
    linears: [
      { layer: 0, churn: 0.25 },
      { layer: 1, churn: 0.25 },
    ],
  })
})
