import { globSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '../../..')
/** An import of the Worker's bindings, or of test support that uses them. */
const IMPORTS_BINDINGS = /from '(cloudflare:|[^']*\/(doubles\/(?!heartbeat)|faults\/|requests\/|setup\/))/

/** Test files of the gateway that use no binding of the Worker. */
export const PURE_GATEWAY_TESTS = globSync('test/gateway/**/*.test.ts', { cwd: ROOT }).filter(
  (path) => !IMPORTS_BINDINGS.test(readFileSync(join(ROOT, path), 'utf8')),
)
