import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { decodeMask, encodeMask } from '@copal/shared/mask/mask-codec.ts'
import { runCommand } from '../../../../gpu-node/cli/program.ts'
import { openModel } from '../../../../gpu-node/src/model/open-model.ts'
import { randomHalfMask } from '../../../support/models/random-masks.ts'
import { bfloat16Bits } from '../../../support/models/safetensors-writer.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { maskGateway, sha256, type MaskGatewayOptions } from '../../../support/doubles/mask-gateway.ts'
import { recordedTerminal, type RecordedTerminal } from '../../../support/doubles/recorded-terminal.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'
import { decodeSafetensors } from '../../../support/models/safetensors-content.ts'

const Q = 'model.layers.0.self_attn.q_proj.weight'

let tiny: TinyModel
let cache: string

beforeAll(async () => {
  tiny = await openTinyModel()
  cache = join(tiny.dir, 'cache')
})
afterAll(() => tiny.remove())

/** A gateway and the model that a checkout would find. */
async function fakeGateway(file: Uint8Array, options?: MaskGatewayOptions) {
  const { env, uploads } = await maskGateway(file, options)
  return { env: { ...env, COPAL_CACHE: cache, COPAL_MODEL: join(tiny.dir, 'model') }, uploads }
}

async function run(
  env: Record<string, string>,
  cwd: string,
  ...args: string[]
): Promise<RecordedTerminal & { code: number }> {
  const terminal = recordedTerminal({ env, cwd })
  const code = await runCommand(args, terminal)
  return { ...terminal, code }
}

/** A mask of the model that a checkout would find: converted, so with the base hash of that. */
async function maskOf(seed: number, change: Parameters<typeof randomHalfMask>[3] = {}) {
  const model = await openModel(join(tiny.dir, 'model'), { cacheDir: cache })
  return randomHalfMask(model, seed, undefined, change)
}

test('a mask is exported byte for byte, and no existing file is overwritten', async () => {
  const { bytes } = await maskOf(1, { values: true })
  const { env } = await fakeGateway(bytes)
  const cwd = temporaryDir()
  const first = await run(env, cwd, 'masks', 'export', 'm3', '--out', 'm3.safetensors')
  expect([first.code, first.errors()]).toEqual([0, ''])
  expect(readFileSync(join(cwd, 'm3.safetensors'))).toEqual(Buffer.from(bytes))
  const again = await run(env, cwd, 'masks', 'export', 'm3', '--out', 'm3.safetensors')
  expect([again.code, again.errors()]).toEqual([1, expect.stringContaining('already exists')])
})

test('a file that arrives damaged is not kept', async () => {
  const { bytes } = await maskOf(2)
  const { env } = await fakeGateway(bytes, { damage: (sent) => sent.with(sent.length - 1, 7) })
  const cwd = temporaryDir()
  const terminal = await run(env, cwd, 'masks', 'export', '3', '--out', 'm3.safetensors')
  expect([terminal.code, terminal.errors()]).toEqual([1, expect.stringContaining('arrived damaged')])
  expect(readdirSync(cwd)).toEqual([])
})

test.each(['F32', 'BF16'] as const)(
  'a mask is exported as a %s checkpoint that opens as the pruned model',
  async (dtype) => {
    const { bytes, linears } = await maskOf(3, { dense: [Q] })
    const { env } = await fakeGateway(bytes)
    const cwd = temporaryDir()
    const done = await run(env, cwd, 'masks', 'export', 'm3', '--checkpoint', 'pruned', '--dtype', dtype)
    expect([done.code, done.errors()]).toEqual([0, expect.stringContaining('Writing tensors')])

    const { metadata, tensors } = decodeSafetensors(readFileSync(join(cwd, 'pruned', 'model.safetensors')))
    expect(metadata).toEqual({ format: 'pt' })
    expect([...tensors.keys()].sort()).toEqual([...tiny.tensors.keys()].sort())
    for (const [name, { shape, values }] of tiny.tensors) {
      const linear = linears.get(name)
      const expected = values.map((value, i) => {
        if (!linear) return value
        const col = i % linear.cols
        const byte = linear.bits[Math.floor(i / linear.cols) * (linear.cols / 8) + (col >> 3)]!
        return (byte >> (col & 7)) & 1 ? value : 0
      })
      const tensor = tensors.get(name)!
      expect([tensor.dtype, tensor.shape]).toEqual([dtype, shape])
      const stored =
        dtype === 'F32'
          ? new Uint8Array(expected.buffer)
          : new Uint8Array(Uint16Array.from(expected, bfloat16Bits).buffer)
      expect([name, Buffer.from(tensor.data).equals(stored)]).toEqual([name, true])
    }
    const opened = await openModel(join(cwd, 'pruned'), { cacheDir: temporaryDir() })
    expect(opened.config).toEqual(tiny.model.config)
    expect(opened.codec.encode('Hello there')).toEqual(tiny.model.codec.encode('Hello there'))
  },
)

test('a weights file becomes a checkpoint of its values without a gateway', async () => {
  const { bytes, linears } = await maskOf(4, { values: true })
  const { env } = await fakeGateway(bytes)
  const cwd = temporaryDir()
  writeFileSync(join(cwd, 'w.safetensors'), bytes)
  const offline = { COPAL_CACHE: cache, COPAL_MODEL: env.COPAL_MODEL }
  const done = await run(offline, cwd, 'masks', 'export', 'w.safetensors', '--checkpoint', 'pruned')
  expect(done.code).toBe(0)
  const { tensors } = decodeSafetensors(readFileSync(join(cwd, 'pruned', 'model.safetensors')))
  const { values, bits } = linears.get(Q)!
  const stored = new Uint16Array(Uint8Array.from(tensors.get(Q)!.data).buffer)
  const kept = [...stored].filter((_, i) => (bits[i >> 3]! >> (i & 7)) & 1)
  expect(kept).toEqual([...values!])
  expect([...stored].filter((value) => value !== 0).length).toBeLessThanOrEqual(values!.length)
  const full = await run(offline, cwd, 'masks', 'export', 'w.safetensors', '--checkpoint', 'pruned')
  expect([full.code, full.errors()]).toEqual([1, expect.stringContaining('is not empty')])
})

test('an export that is interrupted leaves no checkpoint', async () => {
  const { bytes } = await maskOf(8)
  const { env } = await fakeGateway(bytes)
  const cwd = temporaryDir()
  writeFileSync(join(cwd, 'w.safetensors'), bytes)
  const interruption = new AbortController()
  let errors = ''
  const stderr = {
    write(text: string) {
      errors += text
      if (text.includes('Writing tensors')) interruption.abort()
    },
  }
  const terminal = { ...recordedTerminal({ env, cwd }), stderr, signal: interruption.signal }
  expect(await runCommand(['masks', 'export', 'w.safetensors', '--checkpoint', 'pruned'], terminal)).toBe(1)
  expect(errors).toContain('Interrupted. No checkpoint was written.')
  expect(readdirSync(join(cwd, 'pruned'))).toEqual([])
})

test('a mask that fits is uploaded under its hash, and activated only with --activate', async () => {
  const { bytes } = await maskOf(5, { values: true, dense: [Q] })
  const { env, uploads } = await fakeGateway(bytes)
  const cwd = temporaryDir()
  writeFileSync(join(cwd, 'w.safetensors'), bytes)
  const quiet = await run(env, cwd, 'masks', 'import', 'w.safetensors', '--model', 'tiny')
  expect([quiet.code, quiet.output()]).toEqual([
    0,
    expect.stringMatching(/is m4 of tiny .* It is not served/),
  ])
  const active = await run(env, cwd, 'masks', 'import', 'w.safetensors', '--activate', '--json')
  expect(JSON.parse(active.output())).toMatchObject({ version: 4, active: true })
  const [rows, cols] = tiny.tensors.get(Q)!.shape as [number, number]
  const sent = {
    path: `/admin/masks/${sha256(bytes)}`,
    length: String(bytes.length),
    body: Buffer.from(bytes),
  }
  expect(uploads).toEqual([
    { ...sent, query: { activate: 'false', dense_weights: String(rows * cols), model: 'tiny' } },
    { ...sent, query: { activate: 'true', dense_weights: String(rows * cols) } },
  ])
})

test('a mask that was never served is followed through the gate', async () => {
  const { bytes } = await maskOf(5, { values: true })
  const cwd = temporaryDir()
  writeFileSync(join(cwd, 'w.safetensors'), bytes)
  const passing = await fakeGateway(bytes, { update: { state: 'promoted', error: null } })
  const passed = await run(passing.env, cwd, 'masks', 'import', 'w.safetensors', '--activate', '--json')
  expect([passed.code, JSON.parse(passed.output())]).toMatchObject([
    0,
    { version: 4, active: true, update: 'upd_1' },
  ])
  const error = {
    code: 'gate_failed',
    message: "m4 is rejected. 'GET /admin/updates/upd_1' shows what was measured.",
  }
  const failing = await fakeGateway(bytes, { update: { state: 'failed', error } })
  const failed = await run(failing.env, cwd, 'masks', 'import', 'w.safetensors', '--activate')
  expect(failed.code).toBe(1)
  expect(failed.errors()).toContain("m4 is rejected. 'npx copal updates upd_1' shows what was measured.")
  const detached = await run(failing.env, cwd, 'masks', 'import', 'w.safetensors', '--activate', '--detach')
  expect([detached.code, detached.output()]).toEqual([
    0,
    'Update upd_1 evaluates it. Follow it with: npx copal updates upd_1\n',
  ])
})

test('an activated mask is reported as active even if the status cannot be fetched', async () => {
  const { bytes } = await maskOf(5, { values: true })
  const { env } = await fakeGateway(bytes)
  const cwd = temporaryDir()
  writeFileSync(join(cwd, 'w.safetensors'), bytes)
  const told = await run(env, cwd, 'masks', 'import', 'w.safetensors', '--activate')
  expect([told.code, told.output()]).toEqual([
    0,
    expect.stringMatching(/is m4 of tiny .* m4 is active, but the status of the nodes .* is unknown/),
  ])
})

test('importing the active mask again says that it is the active one, and changes nothing', async () => {
  const { bytes } = await maskOf(5, { values: true })
  const { env } = await fakeGateway(bytes, { isActive: true })
  const cwd = temporaryDir()
  writeFileSync(join(cwd, 'w.safetensors'), bytes)
  const again = await run(env, cwd, 'masks', 'import', 'w.safetensors')
  expect(again.output()).toMatch(/is m4 of tiny \(50\.0 % pruned\)\. It is the active mask\.\n$/)
})

test('for a mask that was served before the output recommends a rollback', async () => {
  const { bytes } = await maskOf(5, { values: true })
  const { env } = await fakeGateway(bytes, { promotedAt: '2026-11-27T00:00:00Z' })
  const cwd = temporaryDir()
  writeFileSync(join(cwd, 'w.safetensors'), bytes)
  const known = await run(env, cwd, 'masks', 'import', 'w.safetensors')
  expect(known.output()).toMatch(/It is not served\. To serve it: npx copal rollback m4\n$/)
  const named = await run(env, cwd, 'masks', 'import', 'w.safetensors', '--model', 'tiny')
  expect(named.output()).toMatch(/To serve it: npx copal rollback m4 --model tiny\n$/)
  const ignored = await run(env, cwd, 'masks', 'import', 'w.safetensors', '--detach')
  expect(ignored.code).toBe(2)
  expect(ignored.errors()).toContain("error: '--detach' goes with --activate")
})

test.each<[string, (bytes: Uint8Array) => Uint8Array, RegExp]>([
  [
    'was made for other weights',
    () => randomHalfMask(tiny.model, 6, 'e'.repeat(64)).bytes,
    /made for other dense weights.*That is model: name another model with --weights or COPAL_MODEL\./,
  ],
  [
    'keeps a weight too many',
    (bytes) => bytes.map((byte, i) => (i === bytes.length - 1 ? byte ^ 1 : byte)),
    /row \d+ keeps/,
  ],
  ['is cut short', (bytes) => bytes.subarray(0, -3), /describes \d+ bytes/],
  [
    'lacks a linear',
    (bytes) => {
      const { meta, linears } = decodeMask(bytes)
      return encodeMask({ meta, linears: new Map([...linears].slice(1)) })
    },
    /is missing/,
  ],
])('a mask that %s is not sent', async (_, damage, message) => {
  const { bytes } = await maskOf(6)
  const { env, uploads } = await fakeGateway(bytes)
  const cwd = temporaryDir()
  writeFileSync(join(cwd, 'w.safetensors'), damage(bytes))
  const terminal = await run(env, cwd, 'masks', 'import', 'w.safetensors')
  expect([terminal.code, terminal.errors()]).toEqual([1, expect.stringMatching(message)])
  expect(uploads).toEqual([])
})

test('inspecting prints metadata and kept weights without control characters', async () => {
  const { bytes } = await maskOf(7, { values: true, dense: [Q] })
  const { meta, linears } = decodeMask(bytes)
  const cwd = temporaryDir()
  writeFileSync(join(cwd, 'w.safetensors'), encodeMask({ meta: { ...meta, method: 'x\u001b[2J' }, linears }))
  const terminal = await run({}, cwd, 'masks', 'inspect', 'w.safetensors')
  expect(terminal.code).toBe(0)
  expect(terminal.output()).toContain('kind     weights')
  expect(terminal.output()).toContain('method   x?[2J')
  expect(terminal.output()).toContain(`dense    ${Q}`)
  expect(terminal.output()).toMatch(/model\.layers\.0\.mlp\.down_proj\.weight +64×\d+ +0\.5 +[\d,]+ +50\.0 %/)

  const json = await run({}, cwd, 'masks', 'inspect', 'w.safetensors', '--json')
  expect(JSON.parse(json.output())).toMatchObject({
    kind: 'weights',
    sparsity: 0.5,
    dense: [Q],
    linears: { length: linears.size },
  })
})

test.each([
  [['masks', 'exprot'], 2, "unknown command 'masks exprot'"],
  [['masks', 'export', 'm3'], 2, '--out <file> or --checkpoint <dir> is expected'],
  [['masks', 'export', 'x', '--out', 'f'], 2, 'A mask is a number'],
  [['masks', 'export', 'w.safetensors', '--out', 'f'], 2, 'a mask like m3 is expected'],
  [['masks', 'export', 'm3', '--out', 'f', '--checkpoint', 'd'], 2, 'cannot be used with'],
  [['masks', 'export', 'm3', '--out', 'f', '--dtype', 'F32'], 2, "'--out <file>'"],
  [['masks', 'export', 'm3', '--out', 'f', '--weights', 'd'], 2, "'--out <file>'"],
  [['masks', 'export', 'm3', '--checkpoint', 'd', '--dtype', 'F16'], 2, 'Allowed choices are BF16, F32'],
  [['masks', 'export', 'dense', '--out', 'f'], 2, 'The dense model has no mask file'],
  [['masks', 'pin', 'dense'], 2, 'The dense model is always kept'],
  [['masks', 'export', 'm3', '--out', 'empty'], 1, 'copal: empty is a folder, a file is needed.\n'],
  [['masks', 'export', 'm3', '--out', 'no/f'], 1, 'copal: The folder no does not exist. Make it first'],
  [['masks', 'export', 'm3', '--out', 'notes.md/f'], 1, 'copal: notes.md is a file, a folder is needed.\n'],
  [
    ['masks', 'export', 'm3', '--checkpoint', 'notes.md'],
    1,
    'copal: notes.md is a file, a folder is needed.\n',
  ],
  [
    ['masks', 'build', '--from-statistics', 'lab', '--out', 'empty'],
    1,
    'copal: empty is a folder, a file is needed.\n',
  ],
  [
    ['masks', 'build', '--from-statistics', 'lab', '--domains', 'law', '--out', 'f'],
    1,
    "copal: The folder lab does not exist. Name one that 'npx copal lab run' wrote",
  ],
  [['lab', 'sensitivity', 'none', '--text', 'notes.md'], 1, 'copal: none does not exist.\n'],
  [['lab', 'sensitivity', 'empty', '--text', 'notes.md'], 1, 'copal: empty is a folder, a file is needed.\n'],
  [
    ['lab', 'run', '--domain', 'a=notes.md:notes.md', '--out', 'notes.md'],
    1,
    'copal: notes.md is a file, a folder is needed.\n',
  ],
  [['masks', 'inspect', 'empty'], 1, 'copal: empty is a folder, a file is needed.\n'],
  [['evaluate', 'notes.md/x'], 1, 'copal: notes.md is a file, a folder is needed.\n'],
  [['masks', 'inspect', 'absent.safetensors'], 1, 'copal: absent.safetensors does not exist.\n'],
  [['masks', 'import', 'absent.safetensors'], 1, 'copal: absent.safetensors does not exist.\n'],
  [
    ['masks', 'inspect', 'notes.md'],
    1,
    "notes.md is not a safetensors file (its first eight bytes are not a header length). Name a mask file like those that 'npx copal masks export' writes.",
  ],
])('%j exits with %d and says why', async (args, code, message) => {
  const cwd = temporaryDir()
  mkdirSync(join(cwd, 'empty'))
  writeFileSync(join(cwd, 'notes.md'), '# Notes of the day')
  const terminal = await run({ COPAL_BASE_URL: 'http://127.0.0.1:1', COPAL_ADMIN_KEY: 'a' }, cwd, ...args)
  expect([terminal.code, terminal.errors()]).toEqual([code, expect.stringContaining(message)])
  expect(existsSync(join(cwd, 'f'))).toBe(false)
})
