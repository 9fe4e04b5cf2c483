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
