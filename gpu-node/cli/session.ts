import { readConnection } from './connection.ts'
import { createGatewayClient, type GatewayClient } from './gateway-client.ts'
import { renderTable, type Column } from './table.ts'
import { tableWidth, type Terminal } from './terminal.ts'

/** What one run of the command works with; credentials are read when a call first needs them. */
export interface Session {
  terminal: Terminal
  client: () => GatewayClient
  /** The value as JSON when the user asked for it, else what `people` prints. */
  print: (json: boolean | undefined, value: unknown, people: () => string) => void
  table: <Row>(columns: readonly Column<Row>[], rows: readonly Row[]) => string
}

export function createSession(terminal: Terminal): Session {
  let client: GatewayClient | undefined
  return {
    terminal,
    client() {
      client ??= createGatewayClient(readConnection(terminal), terminal.signal)
      return client
    },
    print(json, value, people) {
      terminal.stdout.write(json ? `${JSON.stringify(value, null, 2)}\n` : `${people()}\n`)
    },
    table: (columns, rows) => renderTable(columns, rows, tableWidth(terminal.stdout)),
  }
}
