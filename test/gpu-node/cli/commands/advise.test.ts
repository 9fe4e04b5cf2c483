import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { advisedService } from '../../../../gpu-node/cli/input/advised-service.ts'
import { runCommand } from '../../../../gpu-node/cli/program.ts'
import { openModel } from '../../../../gpu-node/src/model/open-model.ts'
import type { AdviceSubject } from '../../../../gpu-node/src/serving/advice/advice.ts'
import { keepHint, readHint } from '../../../../gpu-node/src/serving/advice/advice-hint.ts'
import { recordedTerminal } from '../../../support/doubles/recorded-terminal.ts'
import { addon } from '../../../support/engine/backends.ts'
import { skipWithoutAddon } from '../../../support/harness/skip-without-addon.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { randomHalfMask } from '../../../support/models/random-masks.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

interface Printed {
  rows: { mask: string | null; precision: string; form: string | null; is_current: boolean }[]
  advice: string
}

let tiny: TinyModel
let env: Record<string, string>
let mask: Uint8Array

beforeAll(async () => {
  tiny = await openTinyModel()
  const cacheDir = join(tiny.dir, 'cache')
  env = { COPAL_CACHE: cacheDir, COPAL_MODEL: join(tiny.dir, 'model'), COPAL_HOME: join(tiny.dir, 'home') }
  mask = randomHalfMask(await openModel(join(tiny.dir, 'model'), { cacheDir }), 5).bytes
})
afterAll(() => tiny.remove())

async function copal(...args: string[]) {
  return copalWith({}, ...args)
}

async function copalWith(settings: Record<string, string>, ...args: string[]) {
  const cwd = temporaryDir()
  writeFileSync(join(cwd, 'half.safetensors'), mask)
  writeFileSync(join(cwd, 'other.safetensors'), 'no mask')
  writeFileSync(join(cwd, 'text.txt'), 'Hello there. '.repeat(40))
  const terminal = recordedTerminal({ env: { ...env, ...settings }, cwd })
  const code = await runCommand(['advise', ...args], terminal)
  return { code, output: terminal.output(), errors: terminal.errors() }
}

const QUICK = ['--text', 'text.txt', '--tokens', '16', '--seconds', '1', '--threads', '1']

if (addon) testMeasuring()
else skipWithoutAddon('copal advise')

function testMeasuring(): void {
  test('every mask, precision and form is measured, and the way that serves now is marked', async () => {
    const { code, output, errors } = await copal('half.safetensors', ...QUICK, '--json')
    expect(code).toBe(0)
    const { rows, advice } = JSON.parse(output) as Printed
    expect(rows.map(({ mask: name, precision, form }) => [name, precision, form])).toEqual([
      [null, 'bf16', null],
      ['half', 'bf16', 'packed'],
      ['half', 'bf16', 'dense'],
      [null, 'int8', null],
      ['half', 'int8', 'packed'],
      ['half', 'int8', 'dense'],
      [null, 'int4', null],
      ['half', 'int4', 'packed'],
      ['half', 'int4', 'dense'],
    ])
    expect(rows.filter(({ is_current: is }) => is)).toMatchObject([{ mask: 'half', precision: 'bf16' }])
    expect(advice).not.toBe('')
    // The bar shows the share of what is done, once.
    expect(errors).toMatch(/^Loading and scoring +\d+ %/m)
    expect(errors).not.toMatch(/%.*%/)
  })

  test('on a GPU node the form of its precision is marked, and nothing is advised by the speeds of the processor', async () => {
    const settings = { COPAL_BACKEND: 'gpu', COPAL_PRECISION: 'int4', COPAL_FORM: 'dense' }
    const { code, output } = await copalWith(
      settings,
      'half.safetensors',
      ...QUICK,
      '--precision',
      'int4',
      '--json',
    )
    expect(code).toBe(0)
    const { rows, advice } = JSON.parse(output) as Printed
    expect(rows.filter(({ is_current: is }) => is)).toMatchObject([{ mask: 'half', form: 'packed' }])
    expect(advice).toMatch(/^COPAL_BACKEND is gpu: speeds and bytes are those of the processor/)
  })

  test("the masks of the service's home are measured by their versions", async () => {
    const home = env.COPAL_HOME as string
    mkdirSync(join(home, 'masks'), { recursive: true })
    const [sha256, absent] = ['a'.repeat(64), 'b'.repeat(64)]
    writeFileSync(join(home, 'masks', `${sha256}.safetensors`), mask)
    const desired = { active: { version: 4, sha256 }, previous: { version: 3, sha256: absent } }
    writeFileSync(join(home, 'node-state.json'), JSON.stringify({ model: 'tiny', desired }))
    const { code, output } = await copal(...QUICK, '--precision', 'bf16')
    expect(code).toBe(0)
    const names = output.split('\n').filter((line) => /^(dense|m4|m3)\b/.test(line))
    expect(names.map((line) => line.split(/\s+/).slice(0, 3).join(' '))).toEqual([
      expect.stringMatching(/^dense bf16/),
      'm4 bf16 packed',
      'm4 bf16 dense',
    ])
  })

  test('while dense weights serve, the previous mask is measured but not marked as what serves now', async () => {
    const home = env.COPAL_HOME as string
    mkdirSync(join(home, 'masks'), { recursive: true })
    const sha256 = 'c'.repeat(64)
    writeFileSync(join(home, 'masks', `${sha256}.safetensors`), mask)
    const desired = { active: null, previous: { version: 3, sha256 } }
    writeFileSync(join(home, 'node-state.json'), JSON.stringify({ model: 'tiny', desired }))
    const { output } = await copal(...QUICK, '--precision', 'bf16', '--json')
    const { rows } = JSON.parse(output) as Printed
    expect(rows.map((row) => [row.mask, row.is_current])).toEqual([
      [null, true],
      ['m3', false],
      ['m3', false],
    ])
  })

  test('a damaged state of the node counts as no mask', async () => {
    writeFileSync(join(env.COPAL_HOME as string, 'node-state.json'), '{"model": "ti')
    const { code, output } = await copal(...QUICK, '--precision', 'bf16', '--json')
    expect(code).toBe(0)
    expect((JSON.parse(output) as Printed).rows.map((row) => row.mask)).toEqual([null])
  })

  test('a file that is no mask is rejected by its name', async () => {
    const { code, errors } = await copal('other.safetensors', ...QUICK)
    expect(code).toBe(1)
    expect(errors).toMatch(/^copal: other\.safetensors is not a safetensors file/)
  })
}

test('advice is remembered for the service as it is served now, and forgotten when there is none any more', async () => {
  const cacheDir = temporaryDir()
  const service = (active: string | null) =>
    advisedService({ cwd: '/', env: { COPAL_CACHE: cacheDir, COPAL_PRECISION: 'int8' } }, active)
  const subject: AdviceSubject = { mask: 'm4', precision: 'int4', form: null }
  const spread = { median: 1, min: 1, max: 1, count: 1 }
  const speeds = { oneStream: spread, eightStreams: spread, prefill: spread }
  const better = {
    row: { ...subject, ...speeds, bytes: 1, perplexity: 1 },
    timesAsFast: 2,
    timesPerplexity: 1,
  }
  await keepHint(service('m4'), { current: null, better, sentence: 'Take int4.' })
  expect(await readHint(service('m4'))).toBe('Take int4.')
  expect(await readHint(service('m5')), 'another mask serves now').toBeUndefined()
  await keepHint(service('m4'), { current: null, better: null, sentence: 'Stay.' })
  expect(await readHint(service('m4'))).toBeUndefined()
})
