import { setWaitUntilTimeout, waitForGlobalWaitUntil } from 'cloudflare:test-internal'
import { afterAll } from 'vitest'
import { beginFile } from './begin-file.ts'

await beginFile()
// Work that goes on after an answer would find the bindings of the next file. Some never ends: its client is gone.
setWaitUntilTimeout(3_000)
afterAll(() => waitForGlobalWaitUntil(), 60_000)
