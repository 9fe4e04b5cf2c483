import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createProgressBar } from '../../../../gpu-node/cli/output/progress-bar.ts'
import { prepareNode } from '../../../../infra/local/start/prepare-node.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { createTinyLlama } from '../../../support/models/tiny-llama.ts'

/** Recorded output, like a pipe's. */
function recorder() {
  let text = ''
  return { write: (more: string) => (text += more), text: () => text }
}

/** A workspace whose addon was never built, and a cargo that runs a script of the shell. */
function unbuilt(script: string) {
  const cargo = join(temporaryDir(), 'cargo')
  writeFileSync(cargo, `#!/bin/sh\n[ "$1" = --version ] && exec echo cargo 1.0\n${script}\n`, { mode: 0o755 })
  return { workspace: temporaryDir(), cargo }
}

test('the model is converted while the addon is built, and a failed build is one line', async () => {
  const model = temporaryDir()
  const cache = temporaryDir()
  await createTinyLlama(model, { contextLength: 2048 })
  // The build ends, in vain, only when the model is there. A last line of its progress may follow.
  const native = unbuilt(
    `until ls ${cache}/models/*/manifest.json >/dev/null 2>&1; do sleep 0.05; done; echo 'error: no linker' >&2; exit 101`,
  )
  const output = recorder()
  const { signal } = new AbortController()
  await prepareNode({ model, cache }, createProgressBar(output), signal, native)
  expect(output.text()).toMatch(
    /^Building the native addon with cargo 1\.0, [^\n]+ …\n(?:(?:Verifying|Converting) [^\n]+\n)+The native addon cannot be built \(error: no linker\)\.[^\n]+\n(?:Converting [^\n]+\n)?$/,
  )
})

test('a model that cannot be fetched ends the build, and is the error', async () => {
  const output = recorder()
  const { signal } = new AbortController()
  const settings = { model: join(temporaryDir(), 'no-such-model'), cache: temporaryDir() }
  const preparing = prepareNode(settings, createProgressBar(output), signal, unbuilt('exec sleep 600'))
  await expect(preparing).rejects.toThrow('no-such-model')
  expect(output.text()).toMatch(/^Building [^\n]+\n$/)
})

test('without a build the model is left to the node', async () => {
  const output = recorder()
  const { signal } = new AbortController()
  const settings = { model: join(temporaryDir(), 'no-such-model'), cache: temporaryDir() }
  const native = { workspace: temporaryDir(), cargo: 'no-such-cargo' }
  await prepareNode(settings, createProgressBar(output), signal, native)
  expect(output.text()).toMatch(/^The native addon is not built: cargo is not installed\.[^\n]+\n$/)
})
