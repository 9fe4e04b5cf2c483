import { readConnection } from './connection.ts'
import { createApiClient, type ApiClient } from './api-client.ts'
import { renderTable, type Column } from '../output/table.ts'
import { tableWidth, type Terminal } from '../output/terminal.ts'

/** What one run of the command works with; credentials are read when a call first needs them. */
export interface Session {
  terminal: Terminal
  client: () => ApiClient
  /** The value as JSON when the user asked for it, else what `people` prints. */
  print: (json: boolean | undefined, value: unknown, people: () => string) => void
  table: <Row>(columns: readonly Column<Row>[], rows: readonly Row[]) => string
}

export function createSession(terminal: Terminal): Session {
  let client: ApiClient | undefined
  return {
    terminal,
    client() {
      client ??= createApiClient(readConnection(terminal), terminal.signal)
      return client
    },
    print(json, value, people) {
      terminal.stdout.write(json ? `${JSON.stringify(value, null, 2)}\n` : `${people()}\n`)
    },
    table: (columns, rows) => renderTable(columns, rows, tableWidth(terminal.stdout)),
  }
}
