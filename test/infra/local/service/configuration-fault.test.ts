import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { logLength, readConfigurationFault } from '../../../../infra/local/service/configuration-fault.ts'

const FAULT = "The gateway is not configured: the variable COPAL_ADAPTATION is 'loca'."

test('the fault is that of the gateway that was started last, also in a log that was emptied', () => {
  const dir = mkdtempSync(join(tmpdir(), 'copal-log-'))
  onTestFinished(() => rmSync(dir, { recursive: true }))
  const path = join(dir, 'gateway.log')
  expect(readConfigurationFault(path, logLength(path))).toBeUndefined()
  writeFileSync(path, `GET /health failed: AppError: ${FAULT}\n    at read (index.js:1:1)\n`)
  expect(readConfigurationFault(path, 0)).toBe(FAULT)
  const start = logLength(path)
  appendFileSync(path, 'The gateway serves.\n')
  expect(readConfigurationFault(path, start)).toBeUndefined()
  writeFileSync(path, `${FAULT}\n`)
  expect(readConfigurationFault(path, start)).toBe(FAULT)
})
