/** `npm start` with the default policy and everything real but the model: a domain with new text is updated by itself. */
import { rm } from 'node:fs/promises'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { expect, onTestFinished, test } from 'vitest'
import { createTinyLlama } from '../../../support/models/tiny-llama.ts'
import { startService, until, untilUpdateEnded } from '../../../support/processes/service.ts'
import { passages } from '../../../support/text/passages.ts'

test('a domain with enough new text gets a mask without a call to start anything', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'copal-automatic-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true, maxRetries: 5 }))
  const env = {
    COPAL_MODEL: join(dir, 'tiny'),
    COPAL_CACHE: join(dir, 'cache'),
    COPAL_FIRST_UPDATE: 'off',
  }
  await createTinyLlama(env.COPAL_MODEL, { contextLength: 2048, logitScale: 0.3 })
  const service = await startService({ home: join(dir, 'home'), migrated: true, env })
  onTestFinished(() => service.stop())
  const texts = passages('speech.calibration.txt', 120)
  await service.admin('POST', '/admin/domains/speech/texts', { texts })
  // The defaults: services of tests have their triggers off.
  await service.admin('PUT', '/admin/policy', {})
  service.fireCron()
  const started = await until(
    'an update',
    async () => (await service.admin<{ data: UpdateEntry[] }>('GET', '/admin/updates')).data[0],
  )
  expect(started).toMatchObject({ domains: ['speech'], trigger: 'volume' })
  expect(await untilUpdateEnded(service, started.id)).toMatchObject({ state: 'promoted', mask_version: 1 })
}, 900_000)
