//! Documents of both versions and sizes, through the interface of the crate.

mod import;
mod refresh;
mod security;

use serde_json::Value;
use weft_openapi::parse;

const PETS: &str = "
openapi: 3.0.3
info: { title: Pet Store, description: Keeps pets. }
servers:
  - url: 'https://{region}.pets.example/{version}'
    variables: { region: { default: eu, enum: [eu, us] }, version: { default: v2 } }
security: [{ key: [] }]
paths:
  /pets:
    parameters: [{ $ref: '#/components/parameters/Trace' }]
    get:
      operationId: listPets
      summary: List pets
      parameters:
        - { name: limit, in: query, schema: { type: integer, maximum: 100, exclusiveMaximum: true } }
        - { name: 'tags[]', in: query, schema: { type: array, items: { type: string } } }
        - { name: fields, in: query, explode: false, schema: { type: array, items: { type: string } } }
      responses: { '200': { content: { application/json: { schema: { type: array, items: { $ref: '#/components/schemas/Pet' } } } } } }
    post:
      operationId: createPet
      requestBody: { required: true, content: { application/json: { schema: { $ref: '#/components/schemas/Pet' } } } }
      responses: { '201': { content: { application/json: { schema: { $ref: '#/components/schemas/Pet' } } } } }
  /pets/{pet-id}:
    delete:
      parameters: [{ name: pet-id, in: path, required: true, schema: { type: string } }]
      security: []
      responses: { '204': { description: gone } }
  /pets/{pet-id}/photo:
    put:
      operationId: setPhoto
      parameters: [{ name: pet-id, in: path, required: true, schema: { type: string } }]
      requestBody: { content: { multipart/form-data: { schema: { type: object, required: [photo], properties: { photo: { type: string, format: binary }, title: { type: string } } } } } }
      responses: { '200': { content: { image/png: {} } } }
  /broken/{x}: { get: { responses: {} } }
components:
  parameters:
    Trace: { name: X-Trace, in: header, schema: { type: string } }
  securitySchemes:
    other: { type: mutualTLS }
    key: { type: apiKey, in: header, name: X-Api-Key }
  schemas:
    Pet:
      type: object
      required: [name]
      properties:
        name: { type: string, example: Rex }
        age: { type: integer, nullable: true }
        mother: { $ref: '#/components/schemas/Pet' }
";

fn pets() -> Value {
    parse(PETS).expect("YAML")
}

fn action<'a>(manifest: &'a Value, id: &str) -> &'a Value {
    let mut all = manifest["actions"].as_array().expect("actions").iter();
    all.find(|action| action["id"] == id).unwrap_or_else(|| panic!("{id} in {manifest:#}"))
}
