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
      /** Whether structured output works: it needs cargo, which builds the addon. */
      keepsGrammars: boolean
    }
  }
}

/** Starts the product once for all test files. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dir = await mkdtemp(join(tmpdir(), 'copal-conformance-'))
  const built = await buildNative((line) => process.stderr.write(`${line}\n`))
  // Untied: a tied random model repeats its last token, and texts would be equal by accident.
  await createTinyLlama(join(dir, 'tiny'), { contextLength: 4096, tied: false })
  const service = await startService({
    migrated: true,
    env: {
      COPAL_MODEL: join(dir, 'tiny'),
      COPAL_CACHE: join(dir, 'cache'),
      COPAL_FIRST_UPDATE: 'off',
      // A lookup that times out on a busy machine would not be a `miss`.
      COPAL_CACHE_LOOKUP_MS: '30000',
      // Nor is a node lost that a busy machine stops for a while.
      COPAL_NODE_SILENT_MS: '60000',
      COPAL_NODE_DEAD_MS: '120000',
      COPAL_QUEUE_TIMEOUT_MS: '120000',
      // Short, so that a revoked key soon ends its streams.
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
