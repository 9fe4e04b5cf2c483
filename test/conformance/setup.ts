import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { buildNative } from '../../infra/local/build-native.mjs'
import { startService } from '../support/processes/service.ts'
import { createTinyLlama } from '../support/models/tiny-llama.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** The product under test, as `npm start` gives it: workerd and a node with the tiny model. */
    service: {
      baseUrl: string
      origin: string
      apiKey: string
      adminKey: string
      /** Whether answers can be kept to a grammar: where there is cargo to build the addon. */
      keepsGrammars: boolean
    }
  }
}

/** Starts the product once for all clients. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dir = await mkdtemp(join(tmpdir(), 'copal-conformance-'))
  const built = await buildNative((line) => process.stderr.write(`${line}\n`))
  // Untied: a tied random model repeats its last token and would make every comparison easy.
  await createTinyLlama(join(dir, 'tiny'), { contextLength: 4096, tied: false })
  const service = await startService({
    env: {
      COPAL_MODEL: join(dir, 'tiny'),
      COPAL_CACHE: join(dir, 'cache'),
      COPAL_FIRST_UPDATE: 'off',
      COPAL_THREADS: '1',
      // A look-up that is given up on a busy machine is no `miss`.
      COPAL_CACHE_LOOKUP_MS: '30000',
      // A key that is revoked soon ends what it began.
      COPAL_KEY_TRUST_MS: '500',
    },
  })
  const { baseUrl, apiKey, adminKey } = service
  project.provide('service', {
    baseUrl,
    origin: new URL(baseUrl).origin,
    apiKey,
    adminKey,
    keepsGrammars: built !== 'no-cargo',
  })
  return async () => {
    await service.stop()
    await rm(dir, { recursive: true, force: true })
  }
}
