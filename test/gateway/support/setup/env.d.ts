import type { D1Migration } from 'cloudflare:test'
import type { Bindings } from '../../../../gateway/src/contracts/bindings.ts'

declare global {
  namespace Cloudflare {
    interface Env extends Bindings {
      TEST_MIGRATIONS: D1Migration[]
      /** The statements of {@link migratedSchema}. */
      TEST_SCHEMA: string[]
      /** Base URL of the HTTP node double of the global setup. */
      TEST_NODE_URL: string
      /** The network, with the client certificate of the tests and without one. */
      TEST_CERTIFICATE: Fetcher
      TEST_NO_CERTIFICATE: Fetcher
    }
    interface GlobalProps {
      mainModule: typeof import('../../../../gateway/src/index.ts')
    }
  }
}
