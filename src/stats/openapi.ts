// The description of the stats door for programs: an OpenAPI 3.1 document, made of the shapes.

import * as z from "zod";
import { CONNECTION_ORDERS, LIST_BOUNDS } from "./list_bounds.ts";
import {
  ChannelsAnswer,
  ClosedAnswer,
  ConnectionsAnswer,
  ErrorAnswer,
  NodesAnswer,
  ReadyAnswer,
  StatAnswer,
  StatusAnswer,
  SysAnswer,
  TraceAnswer,
} from "./shapes.ts";

/** A parameter of a query, as a JSON schema. */
interface QueryParameter {
  name: string;
  description: string;
  schema: Record<string, unknown>;
}

/** A path of the door: what it answers, as JSON of a shape or as text of some types. */
interface Path {
  summary: string;
  query?: QueryParameter[];
  /** By status; 200 where there is only one. */
  answers: Record<string, { description: string; content: Record<string, unknown> }>;
  isOpen?: boolean;
}

/** The document. `version` is the server's. */
export function openapiDocument(version: string): Record<string, unknown> {
  return {
    openapi: "3.1.1",
    info: {
      title: "pushd stats",
      version,
      description: "What a pushd server says about itself. Everything is read, nothing is changed.",
      license: { name: "MIT", identifier: "MIT" },
    },
    servers: [{ url: "/" }],
    security: [{ bearer: [] }, { basic: [] }, {}],
    paths: Object.fromEntries(
      Object.entries(pathsOfDoor()).map(([path, what]) => [path, { get: operation(path, what) }]),
    ),
    components: {
      securitySchemes: {
        bearer: {
          type: "http",
          scheme: "bearer",
          description: "`stats_token`, where there is one",
        },
        basic: { type: "http", scheme: "basic", description: "`stats_token` as the password" },
      },
      schemas: { Error: schemaOf(ErrorAnswer) },
    },
  };
}

function pathsOfDoor(): Record<string, Path> {
  const limit = (most: number) => ({
    name: "limit",
    description: "How many at most",
    schema: { type: "integer", minimum: 1, maximum: most, default: LIST_BOUNDS.items },
  });
  const text = (description: string, ...types: string[]) => ({
    200: {
      description,
      content: Object.fromEntries(types.map((type) => [type, { schema: { type: "string" } }])),
    },
  });
  return {
    "/": {
      summary: "The server at a glance",
      answers: text("Text for a terminal, a live page for a browser", "text/plain", "text/html"),
    },
    "/s/live": {
      summary: "What the page is fed with; its events may change from version to version",
      answers: {
        ...text("Server-sent events without end", "text/event-stream"),
        429: jsonOf("As many as may listen do so already", ErrorAnswer),
      },
    },
    "/openapi.json": {
      summary: "This document",
      answers: json("An OpenAPI 3.1 document", z.record(z.string(), z.unknown())),
    },
    "/s/ping": { summary: "Whether anybody is there", answers: json("Somebody is", StatusAnswer) },
    "/s/stat": {
      summary: "Counters, version and configuration",
      answers: json("What has happened since the start", StatAnswer),
    },
    "/s/sys": {
      summary: "Memory, processor time, event loop, open files, versions",
      answers: json("What the process takes", SysAnswer),
    },
    "/s/trace": {
      summary: "What the process is doing",
      answers: json("Tasks, and what the event loop waits for", TraceAnswer),
    },
    "/s/channels": {
      summary: "Channels, those with the most subscribers first",
      query: [limit(LIST_BOUNDS.maxItems), {
        name: "prefix",
        description: "Only channels whose name begins so",
        schema: { type: "string", maxLength: LIST_BOUNDS.maxPrefix, default: "" },
      }],
      answers: json("The first of them", ChannelsAnswer),
    },
    "/s/conns": {
      summary: "Connections, those with the most first",
      query: [limit(LIST_BOUNDS.maxItems), {
        name: "sort",
        description: "The most of what: bytes that wait, bytes that it took, bytes that came",
        schema: { type: "string", enum: [...CONNECTION_ORDERS], default: CONNECTION_ORDERS[0] },
      }],
      answers: json("The first of them", ConnectionsAnswer),
    },
    "/s/closed": {
      summary: "The last connections that ended",
      query: [limit(LIST_BOUNDS.maxClosedItems)],
      answers: json("The last one first", ClosedAnswer),
    },
    "/s/nodes": {
      summary: "The nodes of the cluster, and how the links to them are",
      answers: json("This node and those it knows", NodesAnswer),
    },
    "/metrics": {
      summary: "Counters for Prometheus",
      answers: text(
        "In the format that was asked for",
        "text/plain",
        "application/openmetrics-text",
      ),
    },
    "/healthz": {
      summary: "200 while the event loop turns",
      answers: json("It turns", StatusAnswer),
      isOpen: true,
    },
    "/readyz": {
      summary: "200 while the server does its work, else 503",
      answers: { ...json("It does", ReadyAnswer), 503: jsonOf("It does not", ReadyAnswer) },
      isOpen: true,
    },
  };
}

function operation(path: string, { summary, query = [], answers, isOpen = false }: Path) {
  const error = { $ref: "#/components/schemas/Error" };
  return {
    operationId: path === "/" ? "index" : path.slice(1).replace(/\W/g, "_"),
    summary,
    ...(isOpen ? { security: [{}] } : {}),
    parameters: query.map((parameter) => ({ in: "query", required: false, ...parameter })),
    responses: {
      ...answers,
      default: { description: "It is refused", content: { "application/json": { schema: error } } },
    },
  };
}

function json(description: string, shape: z.ZodType): Path["answers"] {
  return { 200: jsonOf(description, shape) };
}

function jsonOf(description: string, shape: z.ZodType): Path["answers"][string] {
  return { description, content: { "application/json": { schema: schemaOf(shape) } } };
}

function schemaOf(shape: z.ZodType): unknown {
  // The dialect is OpenAPI 3.1's own, which is named once and not in each schema.
  const { $schema: _, ...schema } = z.toJSONSchema(shape);
  return schema;
}
