import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { prepareDomains } from '../../../../gpu-node/lab/texts/prepare-domains.ts'
import { readTextInput } from '../../../../gpu-node/lab/texts/text-input.ts'
import { layerSensitivityOf, rowSensitivityOf } from '../../../support/models/sensitivities.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

let tiny: TinyModel
beforeAll(async () => {
  tiny = await openTinyModel()
})
afterAll(() => tiny.remove())

test('evaluation text on which a sensitivity was measured causes a warning', async () => {
  const { dir, model } = tiny
  for (const [name, word] of [
    ['law', 'court '],
    ['sea', 'whale '],
  ] as const)
    writeFileSync(join(dir, `${name}.txt`), word.repeat(200))
  const { sha256 } = await readTextInput('sea.txt', 'text', dir)
  const layerSensitivity = layerSensitivityOf(model, [1, 1])
  const rowSensitivity = rowSensitivityOf(model)
  const specs = ['law', 'sea'].map((name) => ({
    name,
    calibrationPath: null,
    evaluationPath: `${name}.txt`,
  }))
  const options = {
    samples: [],
    length: 16,
    seed: 0,
    windowTokens: 16,
    maxWindows: 2,
    field: 'text',
    cwd: dir,
  }
  const warningsOf = async () => {
    const measured = { ...model, layerSensitivity, rowSensitivity }
    return (await prepareDomains(measured, specs, options, () => undefined)).warnings
  }
  expect(await warningsOf()).toEqual([])
  rowSensitivity.text.sha256 = sha256
  expect(await warningsOf()).toEqual([
    "'sea': the model's row sensitivity was measured on its evaluation text, so its perplexity under methods with +rows is not held out.",
  ])
  layerSensitivity.text.sha256 = sha256
  expect(await warningsOf()).toHaveLength(2)
})

test('calibration sequences are those that the published results were drawn by', async () => {
  const { dir, model } = tiny
  const letters = Array.from({ length: 540 }, (_, i) => String.fromCharCode(97 + ((i * i) % 26))).join('')
  writeFileSync(join(dir, 'letters.txt'), letters)
  const specs = [{ name: 'letters', calibrationPath: 'letters.txt', evaluationPath: 'letters.txt' }]
  const options = {
    samples: [16],
    length: 4,
    seed: 0,
    windowTokens: 16,
    maxWindows: 2,
    field: 'text',
    cwd: dir,
  }
  const { domains } = await prepareDomains(model, specs, options, () => undefined)
  const stream = model.codec.encodeDocument(letters)
  expect(Math.floor(stream.length / 4)).toBe(124)
  const windows = [4, 8, 21, 22, 27, 29, 40, 58, 97, 99, 100, 105, 113, 114, 115, 123]
  const drawn = windows.flatMap((window) => stream.slice(4 * window, 4 * window + 4))
  expect([...(domains[0]?.calibration?.sequences.get(16)?.tokens ?? [])]).toEqual(drawn)
})
