import { afterAll, beforeAll, expect, test } from 'vitest'
import { haveSameInputs, describeRun } from '../../../../gpu-node/lab/run/describe-run.ts'
import { parseVariants } from '../../../../gpu-node/lab/plan/lab-settings.ts'
import { layerSensitivityOf, rowSensitivityOf } from '../../../support/models/sensitivities.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

let tiny: TinyModel
beforeAll(async () => {
  tiny = await openTinyModel()
})
afterAll(() => tiny.remove())

test('only sensitivities that some method reads are described, with their text', () => {
  const model = { ...tiny.model, layerSensitivity: layerSensitivityOf(tiny.model, [1, 2]) }
  const measured = { ...model, rowSensitivity: rowSensitivityOf(tiny.model) }
  const [layers, other] = [describe(model, 'wanda+allocated'), describe(measured, 'wanda+rows')]
  const hash = expect.stringMatching(/^[0-9a-f]{64}$/)
  expect(layers).toEqual({ layers: { sha256: hash, textSha256: '0'.repeat(64) }, rows: null })
  expect(other).toEqual({ layers: null, rows: { sha256: hash, textSha256: '0'.repeat(64) } })
  expect(describe(measured, 'wanda')).toEqual({ layers: null, rows: null })
  measured.layerSensitivity.divergence = 2
  expect(describe(measured, 'wanda+allocated')?.layers?.sha256).not.toBe(layers?.layers?.sha256)
})

test('a run resumes with other methods, and starts anew with other settings', () => {
  const { model } = tiny
  expect(haveSameInputs(about(model, 'wanda'), about(model, 'copal'))).toBe(true)
  const given = about(model, 'wanda')
  expect(haveSameInputs({ ...given, settings: { ...given.settings, seed: 1 } }, given)).toBe(false)
  expect(haveSameInputs(about(model, 'wanda', { '*.0.*': 'dense' }), given)).toBe(false)
  expect(haveSameInputs({ ...given, model: { ...given.model, layers: 9 } }, given)).toBe(false)
})

function describe(model: TinyModel['model'], method: string) {
  return about(model, method).sensitivities
}

function about(model: TinyModel['model'], method: string, patternRules: Record<string, string> = {}) {
  const settings = {
    samples: 1,
    length: 8,
    seed: 0,
    windowTokens: 8,
    maxWindows: null,
    propagation: 'dense' as const,
    variants: parseVariants([method]),
    patternRules,
  }
  const texts = { domains: [], warnings: [] }
  return describeRun(model, texts, settings, [], '2026-01-01T00:00:00.000Z')
}
