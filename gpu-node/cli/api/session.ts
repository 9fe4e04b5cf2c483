import { readConnection } from './connection.ts'
import { createApiClient, type ApiClient } from './api-client.ts'
import { printableLines, renderTable, type Column } from '../output/table.ts'
import { tableWidth, type Terminal } from '../output/terminal.ts'

/** The terminal, API client and printing functions that the commands of one run share. */
export interface Session {
  terminal: Terminal
  /** Returns the API client. Credentials are read at the first call. */
  client: () => ApiClient
  /** Prints `value` as JSON when the user asked for JSON, else the text that `people` returns, without unseen characters. */
  print: (json: boolean | undefined, value: unknown, people: () => string) => void
  table: <Row>(columns: readonly Column<Row>[], rows: readonly Row[]) => string
}

/** Creates the session of one command line. */
export function createSession(terminal: Terminal): Session {
  let client: ApiClient | undefined
  return {
    terminal,
    client() {
      client ??= createApiClient(readConnection(terminal), terminal.signal)
      return client
    },
    print(json, value, people) {
      terminal.stdout.write(json ? `${JSON.stringify(value, null, 2)}\n` : `${printableLines(people())}\n`)
    },
    table: (columns, rows) => renderTable(columns, rows, tableWidth(terminal.stdout)),
  }
}
