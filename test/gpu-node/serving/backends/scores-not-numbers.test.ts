import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { selfTestPrompt } from '../../../../gpu-node/src/serving/contract/self-test.ts'
import { generateWork, randomTokens, Steps, tokenIds } from '../../../support/engine/backend-steps.ts'
import { addon, BACKENDS, INT8_KEYS } from '../../../support/engine/backends.ts'
import { skipWithoutAddon } from '../../../support/harness/skip-without-addon.ts'
import { openTinyModel } from '../../../support/models/tiny-model.ts'

if (!addon) skipWithoutAddon('the sparse engine')

// Without GPU backends, which reject such an embedding when they load it.
test.each([...BACKENDS, ...INT8_KEYS])(
  '$name: a prompt whose scores are not numbers fails alone',
  async ({ create }) => {
    const tiny = await openTinyModel({ tied: false })
    onTestFinished(() => tiny.remove())
    const { model, dir } = tiny
    const { config, master } = model
    const good = randomTokens(49, 6)
    const used = new Set([...good, ...selfTestPrompt(config.vocabSize)])
    const broken = [...Array(config.vocabSize).keys()].find((token) => !used.has(token))!
    const bytes = await readFile(master.path)
    const rowBytes = 4 * config.hiddenSize
    const row = master.tensors.get('model.embed_tokens.weight')!.offset + broken * rowBytes
    // All bits set is a NaN.
    bytes.fill(0xff, row, row + rowBytes)
    const path = join(dir, 'broken.f32')
    await writeFile(path, bytes)
    const backend = create(join(dir, 'work'))
    const weights = await backend.load({
      model: { ...model, master: { ...master, path } },
      version: 0,
      maskPath: null,
      priority: 'serving',
    })
    onTestFinished(() => backend.release(weights))
    const steps = new Steps(backend, weights)
    const [alone] = tokenIds(await steps.generate(1, good, 1))
    const targets = Int32Array.of(good[1]!, good[2]!, -1)
    const outputs = await steps.run([
      generateWork(2, good),
      {
        ...generateWork(3, Int32Array.of(good[0]!, broken, good[2]!)),
        promptScores: { targets, alternatives: 2 },
      },
    ])
    expect(outputs).toMatchObject([{ kind: 'token', token: alone }, { kind: 'failed' }])
  },
)
